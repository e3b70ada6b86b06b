"""Whether a live object still carries everything that a manifest says: how a hand edit is found without a request.

Others may add: keys anywhere, and items in the lists that Kubernetes merges by key. What the manifest names must be
there with the same meaning: quantities are compared as numbers, and an empty value may be left out by the server.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusion_contract.quantity import quantity_value

_MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "conditions": ("type",),
}
"""Lists of maps that several writers may share, and what tells their items apart (x-kubernetes-list-map-keys).

`ports` is left out: its key differs between kinds, and nobody else adds to ours.
"""

_ATOMIC_MAPS = frozenset({"selector", "matchLabels", "nodeSelector", "podSelector"})
"""Maps that belong to one writer as a whole (x-kubernetes-map-type: atomic): an added key changes what ours mean."""

_QUANTITIES_UNDER = ("requests", "limits", "capacity", "hard")


def first_difference(manifest: Any, live: Any, path: str = "") -> str | None:
    """The path of the first thing in `manifest` that `live` does not carry, or None where it carries all of it."""
    if isinstance(manifest, Mapping):
        return _map_difference(manifest, live, path)
    if isinstance(manifest, Sequence) and not isinstance(manifest, str):
        return _list_difference(manifest, live, path)
    if manifest == live or (_is_empty(manifest) and live is None):
        return None
    quantity = path.endswith(".sizeLimit") or any(f".{name}." in path for name in _QUANTITIES_UNDER)
    return None if quantity and _same_quantity(manifest, live) else path


def _map_difference(manifest: Mapping[str, Any], live: Any, path: str) -> str | None:
    if live is None and not any(not _is_empty(value) for value in manifest.values()):
        return None
    if not isinstance(live, Mapping):
        return path
    if path.rsplit(".", 1)[-1] in _ATOMIC_MAPS and (added := live.keys() - manifest.keys()):
        return f"{path}.{min(added)}"
    for key, value in manifest.items():
        if (found := first_difference(value, live.get(key), f"{path}.{key}")) is not None:
            return found
    return None


def _list_difference(manifest: Sequence[Any], live: Any, path: str) -> str | None:
    if live is None and not manifest:
        return None
    if not isinstance(live, Sequence) or isinstance(live, str):
        return path
    keys = _MERGE_KEYS.get(path.rsplit(".", 1)[-1])
    if keys:
        present = {tuple(item.get(key) for key in keys): item for item in live}
        pairs = [(item, present.get(tuple(item.get(key) for key in keys))) for item in manifest]
    elif len(manifest) != len(live):
        return path
    else:
        pairs = list(zip(manifest, live, strict=True))
    for number, (ours, theirs) in enumerate(pairs):
        if theirs is None and ours is not None:
            return f"{path}[{number}]"
        if (found := first_difference(ours, theirs, f"{path}[{number}]")) is not None:
            return found
    return None


def _is_empty(value: Any) -> bool:
    return not value


def _same_quantity(one: Any, other: Any) -> bool:
    value = quantity_value(one)
    return value is not None and value == quantity_value(other)
