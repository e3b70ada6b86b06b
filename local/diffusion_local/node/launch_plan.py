"""From a container's spec to the file that `launch` reads: what is bound where, as whom, with which command."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_local.network import CLUSTER_DOMAIN
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.environment import expand, referenced_variables
from diffusion_local.node.identity import program_folders, security
from diffusion_local.node.machine_files import Image

PROGRAMS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MountRefused(Exception):
    """A volumeMount cannot be made; the message says why."""


@dataclass(frozen=True)
class Bind:
    """One folder or file of this machine, shown inside the container."""

    source: Path
    target: str
    read_only: bool = False


def base_environment(hostname: str, home: str) -> dict[str, str]:
    """What an image and a runtime give every container: programs on the PATH, its host name, its home."""
    path = f"{sys.prefix}/bin:{PROGRAMS_PATH}"
    return {"PATH": path, "HOSTNAME": hostname, "HOME": home, "LANG": "C.UTF-8"}


def volume_binds(
    container: Manifest, paths: Mapping[str, Path], read_only: set[str], variables: Mapping[str, str]
) -> list[Bind]:
    """The container's volumeMounts, outer ones first."""
    binds = []
    for mount in container.get("volumeMounts") or []:
        source = paths[mount["name"]]
        below = sub_path_of(mount, variables)
        if below:
            source = sub_path(source, below)
        fixed = bool(mount.get("readOnly")) or mount["name"] in read_only
        binds.append(Bind(source, mount["mountPath"], fixed))
    return sorted(binds, key=lambda bind: len(Path(bind.target).parts))


def sub_path_of(mount: Manifest, variables: Mapping[str, str]) -> str:
    """The mount's subPath or subPathExpr; MountRefused where that names a variable that does not exist."""
    expression = mount.get("subPathExpr") or ""
    missing = [name for name in referenced_variables(expression) if name not in variables]
    if missing:
        raise MountRefused(f"subPathExpr {expression!r}: missing value for {missing[0]!r}")
    return expand(expression, variables) or mount.get("subPath") or ""


def sub_path(volume: Path, below: str) -> Path:
    """A folder or file inside a volume, made as a folder when it is missing."""
    path = volume / below
    if ".." in Path(below).parts or Path(below).is_absolute():
        raise MountRefused(f"subPath {below!r} must stay inside the volume")
    path = path.resolve()
    if not path.is_relative_to(volume.resolve()):
        raise MountRefused(f"subPath {below!r} leads out of the volume")
    if not path.exists():
        path.mkdir(parents=True)
        path.chmod(0o777)
    return path


def command_line(container: Manifest, image: Image, variables: Mapping[str, str]) -> list[str]:
    """`command` in place of all that the image runs, `args` in place of its `cmd` alone, with `$(VAR)` replaced."""
    command, args = ([expand(word, variables) for word in container.get(key) or []] for key in ("command", "args"))
    return [*command, *args] if command else [*image.entrypoint, *(args or image.cmd)]


def launch_spec(
    pod: Manifest,
    container: Manifest,
    root: Path,
    binds: Sequence[Bind],
    argv: Sequence[str],
    variables: Mapping[str, str],
    whom: Manifest,
) -> Manifest:
    """The file for `launch`, but for the descriptor that it reports to; `whom` is what `identity` says."""
    return {
        "root": str(root),
        "hostname": machine_name(pod),
        "etc": etc_files(pod),
        "binds": [{"source": str(b.source), "target": b.target, "readOnly": b.read_only} for b in binds],
        "programs": program_folders(),
        "readOnlyRoot": bool(security(pod, container).get("readOnlyRootFilesystem")),
        "workingDirectory": container.get("workingDir") or "/",
        "argv": list(argv),
        "environment": dict(variables),
        **whom,
    }


def machine_name(pod: Manifest) -> str:
    """What `hostname` says inside: the host name, or with setHostnameAsFQDN the whole name that Services give it."""
    spec, name = pod["spec"], hostname_of(pod)
    whole = spec.get("setHostnameAsFQDN") and spec.get("subdomain")
    return f"{name}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{CLUSTER_DOMAIN}" if whole else name


def etc_files(pod: Manifest) -> dict[str, str]:
    """The files of /etc that are the pod's own, by name."""
    return {"hostname": f"{machine_name(pod)}\n", "resolv.conf": resolver(pod), "nsswitch.conf": sources(pod)}


def sources(pod: Manifest) -> str:
    """/etc/nsswitch.conf: names come from /etc/hosts, and from a name server only where the pod brings one.

    So a name that is not known is said to be unknown; without a server to ask it would be a failure to try again.
    """
    servers = (pod["spec"].get("dnsConfig") or {}).get("nameservers")
    return f"passwd: files\ngroup: files\nhosts: files{' dns' if servers else ''}\n"


def resolver(pod: Manifest) -> str:
    """/etc/resolv.conf, by dnsPolicy and dnsConfig; the cluster has no name server, and none must be waited for."""
    services = f"svc.{CLUSTER_DOMAIN}"
    wished = pod["spec"].get("dnsConfig") or {}
    clusters = pod["spec"].get("dnsPolicy", "ClusterFirst") in ("ClusterFirst", "ClusterFirstWithHostNet")
    searches = [f"{pod['metadata']['namespace']}.{services}", services, CLUSTER_DOMAIN] if clusters else []
    options = {"ndots": "5"} if clusters else {}
    options |= {option["name"]: option.get("value") or "" for option in wished.get("options") or []}
    lines = [f"nameserver {address}" for address in wished.get("nameservers") or []]
    if searches := list(dict.fromkeys([*searches, *(wished.get("searches") or [])])):
        lines.append(f"search {' '.join(searches)}")
    if options:
        lines.append("options " + " ".join(f"{name}:{value}" if value else name for name, value in options.items()))
    return "".join(f"{line}\n" for line in lines)


def hostname_of(pod: Manifest) -> str:
    """The pod's host name: its own wish, else its name, at most 63 characters."""
    wanted: str = pod["spec"].get("hostname") or pod["metadata"]["name"][:63].rstrip("-.")
    return wanted
