"""The names of Services and of the pods behind headless ones, in the form of /etc/hosts: pure."""

from collections.abc import Iterable, Mapping, Sequence

from diffusion_local.network import CLUSTER_DOMAIN
from diffusion_local.services import Key, Object, is_headless, key_of, ready_endpoints

HEADER = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def render_hosts(services: Iterable[Object], slices: Mapping[Key, Sequence[Object]]) -> str:
    """Return the hosts file of all namespaces.

    A Service with an address gets one line; a headless one a line for each ready endpoint, and each endpoint that
    has a host name (pods with `hostname` and `subdomain`, pods of an Indexed Job) its own name below the Service's.
    """
    lines = [line for service in sorted(services, key=key_of) for line in _lines(service, slices)]
    return HEADER + "".join(f"{line}\n" for line in lines)


def _lines(service: Object, slices: Mapping[Key, Sequence[Object]]) -> list[str]:
    namespace, name = key_of(service)
    if not is_headless(service):
        address = service["spec"].get("clusterIP")
        return [f"{address} {_names(name, namespace)}"] if address else []
    lines = []
    for _, endpoint in ready_endpoints(slices.get((namespace, name), ())):
        for address in endpoint["addresses"]:
            if host := endpoint.get("hostname"):
                lines.append(f"{address} {_names(f'{host}.{name}', namespace)}")
            lines.append(f"{address} {_names(name, namespace)}")
    return sorted(set(lines))


def _names(name: str, namespace: str) -> str:
    """The long forms, which mean the same in every namespace."""
    qualified = f"{name}.{namespace}"
    return f"{qualified}.svc.{CLUSTER_DOMAIN} {qualified}.svc {qualified}"
