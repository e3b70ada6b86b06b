"""Which address of a Service leads to which ready endpoints: pure, from Services and EndpointSlices."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from diffusion_local.options import ROUTER_COMPONENT, ForwardTarget

Object = dict[str, Any]
Address = tuple[str, int]
Key = tuple[str, str]
"""Namespace and name of a Service."""
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
COMPONENT_LABEL = "app.kubernetes.io/component"
HEADLESS = "None"


def slices_by_service(slices: Iterable[Object]) -> dict[Key, list[Object]]:
    """Group EndpointSlices by the Service that they belong to."""
    grouped: dict[Key, list[Object]] = {}
    for item in slices:
        meta = item["metadata"]
        if name := (meta.get("labels") or {}).get(SERVICE_NAME_LABEL):
            grouped.setdefault((meta["namespace"], name), []).append(item)
    return grouped


def ready_endpoints(slices: Iterable[Object]) -> Iterator[tuple[Object, Object]]:
    """Yield (slice, endpoint) for each ready endpoint; an unsaid condition counts as ready, as Kubernetes has it."""
    for item in slices:
        for endpoint in item.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                yield item, endpoint


def backends(service_port: Object, slices: Iterable[Object]) -> list[Address]:
    """Return the ready addresses behind one port of a Service; ports are matched by name, as Kubernetes does."""
    name = service_port.get("name") or ""
    return sorted(
        {
            (address, port["port"])
            for item, endpoint in ready_endpoints(slices)
            for port in item.get("ports") or []
            if (port.get("name") or "") == name and port.get("protocol", "TCP") == "TCP"
            for address in endpoint["addresses"]
        }
    )


def is_headless(service: Object) -> bool:
    """Whether the Service has no address of its own, only names."""
    address: str | None = service["spec"].get("clusterIP")
    return address == HEADLESS


def route_table(services: Iterable[Object], slices: Mapping[Key, Sequence[Object]]) -> dict[Address, list[Address]]:
    """Return (ClusterIP, port) -> ready backends for each TCP port of each Service that has an address."""
    table: dict[Address, list[Address]] = {}
    for service in services:
        address = service["spec"].get("clusterIP")
        if not address or is_headless(service):
            continue
        for port in service["spec"].get("ports") or []:
            if port.get("protocol", "TCP") == "TCP":
                table[address, port["port"]] = backends(port, slices.get(key_of(service), ()))
    return table


def forward_backends(
    target: ForwardTarget | None, services: Iterable[Object], slices: Mapping[Key, Sequence[Object]]
) -> list[Address]:
    """Return the ready backends of the first Service, by namespace and name, that `target` means and that has any."""
    meant = [service for service in sorted(services, key=key_of) if _is_meant(service, target)]
    behind = (_behind_target(service, target, slices.get(key_of(service), ())) for service in meant)
    return next(filter(None, behind), [])


def _behind_target(service: Object, target: ForwardTarget | None, slices: Sequence[Object]) -> list[Address]:
    """The ready backends of the Service's first port, or of the one that is named."""
    ports = service["spec"].get("ports") or []
    named = (port for port in ports if target is None or target.port in (None, str(port["port"]), port.get("name")))
    port = next(named, None)
    return [] if port is None else backends(port, slices)


def _is_meant(service: Object, target: ForwardTarget | None) -> bool:
    """A Service that is named, else one that is labelled as a router: of the target's namespace, or of any."""
    if target is not None and target.service is not None:
        return key_of(service) == (target.namespace, target.service)
    labels = service["metadata"].get("labels") or {}
    in_place = target is None or service["metadata"]["namespace"] == target.namespace
    return in_place and labels.get(COMPONENT_LABEL) == ROUTER_COMPONENT


def key_of(item: Object) -> Key:
    """Return namespace and name."""
    return item["metadata"]["namespace"], item["metadata"]["name"]
