"""From a container's spec to the file that `launch` reads: what is bound where, as whom, with which command."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.environment import expand, referenced_variables
from diffusion_local.node.machine_files import Image

CLUSTER_DOMAIN = "cluster.local"
PROGRAMS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MountRefused(Exception):
    """A volumeMount cannot be made; the message says why."""


@dataclass(frozen=True)
class Bind:
    """One folder or file of this machine, shown inside the container."""

    source: Path
    target: str
    read_only: bool = False


def program_folders() -> list[str]:
    """The folders that this Python environment and this checkout need, to be shown to containers read-only."""
    checkout = Path(__file__).parents[3]
    folders = [sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])]
    if (checkout / "pyproject.toml").exists():
        folders.append(str(checkout))
    return folders


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


@dataclass(frozen=True)
class MappedIds:
    """The user and group ids that exist in this user namespace, as ranges (first, count)."""

    users: tuple[tuple[int, int], ...]
    groups: tuple[tuple[int, int], ...]
    may_set_groups: bool
    """Plain users may not give up groups in a namespace of theirs."""

    @classmethod
    def here(cls, process: Path = Path("/proc/self")) -> "MappedIds":
        """Those of this process."""

        def ranges(name: str) -> tuple[tuple[int, int], ...]:
            rows = [line.split() for line in (process / name).read_text().splitlines()]
            return tuple((int(first), int(count)) for first, _, count in rows)

        may = (process / "setgroups").read_text().strip() == "allow"
        return cls(ranges("uid_map"), ranges("gid_map"), may)


def lies_in(number: int | None, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether an id exists."""
    return number is not None and any(first <= number < first + count for first, count in ranges)


def identity(pod: Manifest, container: Manifest, mapped: MappedIds) -> Manifest:
    """User, group and capabilities: as the securityContext says where this namespace maps them, else ours.

    A process that was to run as somebody who does not exist here runs as the agent's user without any capability.
    """
    general, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    user = own.get("runAsUser", general.get("runAsUser"))
    group = own.get("runAsGroup", general.get("runAsGroup", 0 if user is not None else None))
    groups = [*(general.get("supplementalGroups") or []), *([general["fsGroup"]] if "fsGroup" in general else [])]
    known = lies_in(user, mapped.users)
    dropped = "ALL" in ((own.get("capabilities") or {}).get("drop") or [])
    return {
        "uid": user if known else None,
        "gid": group if lies_in(group, mapped.groups) else None,
        "groups": [g for g in groups if lies_in(g, mapped.groups)] if known and mapped.may_set_groups else None,
        "dropCapabilities": dropped or (user not in (None, 0) and not own.get("privileged")),
        "noNewPrivileges": own.get("allowPrivilegeEscalation") is False,
    }


def home_of(pod: Manifest, container: Manifest) -> str:
    """/root for root, / for everybody else, as a container runtime does for users that the image does not know."""
    general, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    return "/root" if own.get("runAsUser", general.get("runAsUser", 0)) == 0 else "/"


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
) -> Manifest:
    """The file for `launch`, but for the descriptor that it reports to."""
    security = container.get("securityContext") or {}
    return {
        "root": str(root),
        "hostname": machine_name(pod),
        "etc": etc_files(pod),
        "binds": [{"source": str(b.source), "target": b.target, "readOnly": b.read_only} for b in binds],
        "programs": program_folders(),
        "readOnlyRoot": bool(security.get("readOnlyRootFilesystem")),
        "workingDirectory": container.get("workingDir") or "/",
        "argv": list(argv),
        "environment": dict(variables),
        **identity(pod, container, MappedIds.here()),
    }


def machine_name(pod: Manifest) -> str:
    """What `hostname` says inside: the host name, or with setHostnameAsFQDN the whole name that Services give it."""
    spec, name = pod["spec"], hostname_of(pod)
    whole = spec.get("setHostnameAsFQDN") and spec.get("subdomain")
    return f"{name}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{CLUSTER_DOMAIN}" if whole else name


def etc_files(pod: Manifest) -> dict[str, str]:
    """The files of /etc that are the pod's own, by name; there is no name server, and none must be waited for."""
    services = f"svc.{CLUSTER_DOMAIN}"
    search = f"search {pod['metadata']['namespace']}.{services} {services} {CLUSTER_DOMAIN}"
    return {"hostname": f"{machine_name(pod)}\n", "resolv.conf": f"{search}\noptions ndots:5\n"}


def hostname_of(pod: Manifest) -> str:
    """The pod's host name: its own wish, else its name, at most 63 characters."""
    wanted: str = pod["spec"].get("hostname") or pod["metadata"]["name"][:63].rstrip("-.")
    return wanted
