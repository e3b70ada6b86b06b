"""Whom a container runs as: what its pod asks for, its image says, and this machine can give."""

import functools
import os
import stat
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_local.node.capabilities import capabilities
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.machine_files import Image
from diffusion_local.node.pod_decisions import full_name

Ranges = tuple[tuple[int, int], ...]
"""Ids as (first, count)."""


@dataclass(frozen=True)
class MappedIds:
    """The user and group ids that containers of this machine may have."""

    users: Ranges
    groups: Ranges
    may_set_groups: bool
    """Plain users may not give up groups in a namespace of theirs."""

    @classmethod
    def here(cls, process: Path = Path("/proc/self")) -> "MappedIds":
        """Those of this process's user namespace."""

        def ranges(name: str) -> Ranges:
            rows = [line.split() for line in (process / name).read_text().splitlines()]
            return tuple((int(first), int(count)) for first, _, count in rows)

        may = (process / "setgroups").read_text().strip() == "allow"
        return cls(ranges("uid_map"), ranges("gid_map"), may)


ONLY_ROOT = MappedIds(((0, 1),), ((0, 1),), may_set_groups=False)


def program_folders() -> list[str]:
    """The folders that this Python environment and this checkout need, to be shown to containers read-only."""
    checkout = Path(__file__).parents[3]
    folders = [sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])]
    if (checkout / "pyproject.toml").exists():
        folders.append(str(checkout))
    return folders


def closed_to_others(folders: Iterable[str], files: Iterable[str]) -> Path | None:
    """The first of `files`, or of the folders that lead to it from one of `folders`, that other users may not read."""
    roots = [Path(os.path.realpath(folder)) for folder in folders]
    for file in files:
        path = Path(os.path.realpath(file))
        for part in [*reversed(path.parents), path]:
            shown = any(part.is_relative_to(root) for root in roots)
            wanted = stat.S_IROTH | (stat.S_IXOTH if part.is_dir() else 0)
            if shown and part.stat().st_mode & wanted != wanted:
                return part
    return None


@functools.cache
def closed_program() -> Path | None:
    """Something of this environment that only its owner may read: nobody else could run our programs then."""
    samples = [sys.executable, str(os.__file__), __file__, sysconfig.get_path("purelib")]
    return closed_to_others(program_folders(), samples)


@functools.cache
def mapped_ids() -> MappedIds:
    """Who containers may be: everybody of this namespace, if everybody can run our programs."""
    return ONLY_ROOT if closed_program() else MappedIds.here()


def users_not_held() -> str:
    """Why containers run as whoever started the cluster, whatever users their pods ask for; empty where they do not."""
    if sum(count for _, count in MappedIds.here().users) <= 1:
        return "runAsUser and fsGroup of pods are not held: that takes root, and all processes are yours"
    if closed := closed_program():
        return f"runAsUser and fsGroup of pods are not held: other users may not read {closed}"
    return ""


def lies_in(number: int | None, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether an id exists."""
    return number is not None and any(first <= number < first + count for first, count in ranges)


def security(pod: Manifest, container: Manifest) -> dict[str, Any]:
    """The securityContext of the pod, overridden by that of the container."""
    return {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}


def identity(pod: Manifest, container: Manifest, image: Image, mapped: MappedIds) -> Manifest:
    """User, group and capabilities: as the securityContext or the image says where they exist here, else ours.

    A process that was to run as somebody who does not exist here runs as the agent's user without any capability.
    """
    settings = security(pod, container)
    user = settings.get("runAsUser", image.user)
    group = settings.get("runAsGroup", image.user if user == image.user else 0)
    groups = [*(settings.get("supplementalGroups") or []), *([settings["fsGroup"]] if "fsGroup" in settings else [])]
    known = lies_in(user, mapped.users)
    return {
        "uid": user if known else None,
        "gid": group if lies_in(group, mapped.groups) else None,
        "groups": [g for g in groups if lies_in(g, mapped.groups)] if known and mapped.may_set_groups else None,
        "capabilities": capabilities(settings) if known else [],
        "noNewPrivileges": settings.get("allowPrivilegeEscalation") is False,
    }


def root_refused(pod: Manifest, container: Manifest, image: Image) -> str:
    """Why the container may not run: it would be root, and its pod forbids that; empty where it may."""
    settings = security(pod, container)
    if not settings.get("runAsNonRoot") or settings.get("runAsUser", image.user) != 0:
        return ""
    if "runAsUser" in settings:
        return "container's runAsUser breaks non-root policy"
    where = f'pod: "{full_name(pod)}", container: {container["name"]}'
    return f"container has runAsNonRoot and image will run as root ({where})"


def home_of(pod: Manifest, container: Manifest, image: Image) -> str:
    """/root for root, / for everybody else, as a container runtime does for users that the image does not know."""
    return "/root" if security(pod, container).get("runAsUser", image.user) == 0 else "/"


def volume_group(pod: Manifest, mapped: MappedIds) -> int | None:
    """The group that owns the pod's volumes; None where it asks for none, or for one that does not exist here."""
    group: int | None = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return group if lies_in(group, mapped.groups) else None
