"""Objects without what differs between two runs that did the same: UIDs, versions, times, and names made from them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from diffusion_operator.observe.snapshot import Raw

_VOLATILE = frozenset(
    {
        *("uid", "resourceVersion", "creationTimestamp", "generation", "observedGeneration", "finalizers"),
        *("clusterIP", "clusterIPs", "lastTransitionTime", "pod-template-hash", "diffusion.dev/spec-hash"),
        "diffusion.dev/template-hash",
        *("controller-uid", "batch.kubernetes.io/controller-uid", "deployment.kubernetes.io/revision"),
        *("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"),
    }
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HASH = re.compile(r"(?<=-)[0-9a-f]{8,16}(?=$|[-. /@:\"])")
_ADDRESS = re.compile(r"\b10\.244\.\d+\.\d+\b")
_TEMPLATE_HASH = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{6,10}(?=$|-<random>$)")
"""A 32-bit number, a letter for each decimal digit: ten or nine as a rule, seven once in 500."""
_RANDOM = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{5}$")


def masked_name(name: str, kind: str) -> str:
    """The name with the parts that come from a UID, a template's hash, or chance replaced."""
    if kind == "Pod":
        name = _RANDOM.sub("-<random>", name)
    if kind in ("Pod", "ReplicaSet"):
        name = _TEMPLATE_HASH.sub("-<hash>", name)
    return _HASH.sub("<hash>", name)


def end_state(objects: Sequence[Raw], namespace: str) -> list[Any]:
    """All objects of a namespace, masked, by kind and masked name."""
    replacements = {namespace: "<namespace>"}
    for item in objects:
        metadata = item["metadata"]
        known_as = masked_name(metadata["name"], item["kind"])
        if item["kind"] in ("Pod", "ReplicaSet"):
            replacements[metadata["name"]] = known_as
    ordered = sorted(objects, key=lambda item: (item["kind"], masked_name(item["metadata"]["name"], item["kind"])))
    return [masked(_ours(item), replacements) for item in ordered]


def _ours(item: Raw) -> Raw:
    """The object without a status that other controllers write, each at its own time."""
    ours = item["apiVersion"].startswith("diffusion.dev/")
    return item if ours else {key: value for key, value in item.items() if key != "status"}


def masked(value: Any, replacements: Mapping[str, str]) -> Any:
    """One value without what is volatile."""
    if isinstance(value, Mapping):
        return {key: masked(item, replacements) for key, item in sorted(value.items()) if key not in _VOLATILE}
    if isinstance(value, list | tuple):
        return [masked(item, replacements) for item in value]
    if not isinstance(value, str):
        return value
    for real in sorted(replacements, key=len, reverse=True):
        value = value.replace(real, replacements[real])
    for pattern, mask in ((_TIME, "<time>"), (_UID, "<uid>"), (_HASH, "<hash>"), (_ADDRESS, "<address>")):
        value = pattern.sub(mask, value)
    return value


def differences(reference: Any, found: Any, path: str = "") -> list[str]:
    """Where two masked states differ, as lines for people."""
    if isinstance(reference, Mapping) and isinstance(found, Mapping):
        return [
            line
            for key in sorted({*reference, *found})
            for line in differences(reference.get(key), found.get(key), f"{path}.{key}")
        ]
    if isinstance(reference, list) and isinstance(found, list) and len(reference) == len(found):
        return [
            line
            for number, (one, other) in enumerate(zip(reference, found, strict=True))
            for line in differences(one, other, f"{path}[{number}]")
        ]
    return [] if reference == found else [f"{path}: {reference!r} became {found!r}"]
