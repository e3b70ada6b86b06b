"""Whether the API server still holds the status that this node wrote, so that what others change is put right. Pure."""

from typing import Any

from diffusion_local.node.configuration import Manifest


def holds(stored: Manifest, seen: Manifest) -> bool:
    """Whether a pod's status as `seen` in the API is the one that was `stored`, as far as the node owns it.

    Fields and conditions that only others write do not count, and nothing, null and empty are the same.
    """
    ours, theirs = by_type(stored), by_type(seen)
    return agrees(ours, {**theirs, "conditions": {kind: theirs["conditions"].get(kind) for kind in ours["conditions"]}})


def by_type(status: Manifest) -> Manifest:
    """A status whose conditions are a table."""
    return {**status, "conditions": {entry["type"]: entry for entry in status.get("conditions") or []}}


def agrees(ours: Any, theirs: Any) -> bool:
    """Whether everything that `ours` says is said by `theirs` as well."""
    if isinstance(ours, dict):
        other = theirs if isinstance(theirs, dict) else {}
        return all(agrees(value, other.get(key)) for key, value in ours.items())
    if isinstance(ours, list):
        other_list = theirs or []
        return len(ours) == len(other_list) and all(map(agrees, ours, other_list))
    return (ours or None) == (theirs or None)
