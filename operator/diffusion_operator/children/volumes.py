"""The volumes of a pod, each claim once.

Checkpoints, model versions and a dataset may lie on one claim. Kubernetes accepts two volumes of it in a pod, but some
storage drivers then mount neither, and the pod waits for ever. One volume with several mounts always works.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]


def each_claim_once(volumes: Sequence[Entry], mounts: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """`volumes` and `volumeMounts` of a pod with one volume for each claim, named as the first of them.

    A mount stays read-only where its volume was, and the volume is so where all were.
    """
    firsts: dict[str, Entry] = {}
    for volume in volumes:
        firsts.setdefault(_claim(volume) or volume["name"], volume)
    writable = {_claim(volume) for volume in volumes if not _is_read_only(volume)}
    kept = [_opened(volume) if _claim(volume) in writable else volume for volume in firsts.values()]
    by_name = {volume["name"]: volume for volume in volumes}
    return kept, [_moved(mount, by_name[mount["name"]], firsts) for mount in mounts]


def _claim(volume: Entry) -> str:
    """The key of a volume's claim; empty where it is of another kind. No name of a volume has a slash."""
    name = volume.get("persistentVolumeClaim", {}).get("claimName", "")
    return f"claim/{name}" if name else ""


def _is_read_only(volume: Entry) -> bool:
    return bool(volume.get("persistentVolumeClaim", {}).get("readOnly"))


def _opened(volume: Entry) -> Entry:
    if not _is_read_only(volume):
        return volume
    return {**volume, "persistentVolumeClaim": {"claimName": volume["persistentVolumeClaim"]["claimName"]}}


def _moved(mount: Entry, volume: Entry, firsts: Mapping[str, Entry]) -> Entry:
    name = firsts[_claim(volume) or volume["name"]]["name"]
    kept_closed = {"readOnly": True} if _is_read_only(volume) else {}
    return {**mount, "name": name, **kept_closed} if name != mount["name"] or kept_closed else mount
