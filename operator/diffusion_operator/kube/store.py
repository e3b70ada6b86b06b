"""What the API server last told us: all watched objects, found by name and by owner. Fed by informers and by kopf."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from diffusion_operator.kube.resources import CUSTOM_RESOURCES, Resource
from diffusion_operator.observe.snapshot import Raw

ObjectKey = tuple[Resource, str, str]
"""Resource, namespace, name."""

_REMEMBER_REMOVED_SECONDS = 120.0


@dataclass(frozen=True)
class Change:
    """An object came (`old` is None), changed, or went (`new` is None)."""

    resource: Resource
    old: Raw | None
    new: Raw | None

    @property
    def object(self) -> Raw:
        """The object as it is, or as it last was."""
        either = self.new if self.new is not None else self.old
        assert either is not None
        return either


@dataclass
class Position:
    """How far a watch has come: the highest resourceVersion heard of, and when its last whole list began."""

    resource_version: int = 0
    listed_at: float = float("-inf")
    """On the monotonic clock."""


class Store:
    """Objects by name and by owner UID. Every change is told to `listeners` after it stands here."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Change], None]] = []
        self._objects: dict[Resource, dict[tuple[str, str], Raw]] = defaultdict(dict)
        self._owned: dict[str, set[ObjectKey]] = defaultdict(set)
        self._positions: dict[tuple[Resource, str], Position] = defaultdict(Position)
        self._removed: dict[str, float] = {}

    def get(self, resource: Resource, namespace: str, name: str) -> Raw | None:
        """The object, or None."""
        return self._objects[resource].get((namespace, name))

    def all(self, resource: Resource) -> Iterator[Raw]:
        """All objects of a kind; a copy of the list, so the store may change meanwhile."""
        return iter(tuple(self._objects[resource].values()))

    def owned_by(self, uid: str) -> Iterator[tuple[Resource, Raw]]:
        """The objects that name `uid` as an owner. Nothing but the UID counts: a namesake owns nothing."""
        for resource, namespace, name in sorted(self._owned.get(uid, ()), key=_order):
            yield resource, self._objects[resource][(namespace, name)]

    def position(self, resource: Resource, namespace: str) -> Position:
        """How far the watch that covers `namespace` has come: its own, or the one of all namespaces."""
        own = self._positions.get((resource, namespace))
        return own if own is not None else self._positions[(resource, "")]

    def put(self, resource: Resource, given: Raw) -> None:
        """Take in an object, unless it is known to be gone, or what stands here by its name is as new or newer.

        A namesake is always newer than the one before it, so an older one is a late word about an object that went.
        """
        new = _trimmed(resource, given)
        key = _name_of(new)
        old = self._objects[resource].get(key)
        if new["metadata"].get("uid") in self._removed:
            return
        if old is not None and version_of(old) >= version_of(new):
            return
        self._set(resource, key, new)
        self._tell(Change(resource, old, new))

    def remove(self, resource: Resource, gone: Raw) -> None:
        """Forget an object that is gone. A namesake with another UID, which came after it, stays."""
        key = _name_of(gone)
        if resource in CUSTOM_RESOURCES:
            self._bury(gone["metadata"].get("uid", ""))
        old = self._objects[resource].get(key)
        if old is not None and _same(old, gone):
            self._unset(resource, key)
            self._tell(Change(resource, old, None))

    def replace(
        self, resource: Resource, namespace: str, listed: Iterable[Raw], version: int, listed_at: float
    ) -> list[Change]:
        """Take a whole list for the truth: what is not in it has vanished. "" is all namespaces. Returns what was new.

        Two streams feed the custom resources, and the other one may be ahead of this list: what it told since, be it a
        newer version or an end, stays.
        """
        fresh = {_name_of(item): item for item in listed if item["metadata"].get("uid") not in self._removed}
        changes = []
        for key, known in list(self._objects[resource].items()):
            if key not in fresh and namespace in ("", key[0]) and not _is_ahead(resource, known, version):
                self.remove(resource, known)
                changes.append(Change(resource, known, None))
        for key, item in fresh.items():
            old, new = self._objects[resource].get(key), _trimmed(resource, item)
            if old is not None and _is_ahead(resource, old, version_of(new)):
                continue
            self._set(resource, key, new)
            if old is None or not _same(old, new) or version_of(old) != version_of(new):
                changes.append(Change(resource, old, new))
                self._tell(changes[-1])
        position = self._positions[(resource, namespace)]
        position.resource_version, position.listed_at = version, listed_at
        return changes

    def _set(self, resource: Resource, key: tuple[str, str], new: Raw) -> None:
        self._unset(resource, key)
        self._objects[resource][key] = new
        for uid in _owners(new):
            self._owned[uid].add((resource, *key))

    def _unset(self, resource: Resource, key: tuple[str, str]) -> Raw | None:
        old = self._objects[resource].pop(key, None)
        for uid in _owners(old or {}):
            self._owned[uid].discard((resource, *key))
            if not self._owned[uid]:
                del self._owned[uid]
        return old

    def _bury(self, uid: str) -> None:
        """Remember what went, where two streams tell of it. A child may come back: its label was taken and given."""
        now = time.monotonic()
        for old in [old for old, at in self._removed.items() if now - at > _REMEMBER_REMOVED_SECONDS]:
            del self._removed[old]
        self._removed[uid] = now

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)


def version_of(item: Raw) -> int:
    """The resourceVersion as a number. Kubernetes promises since 1.35 that they compare so within one kind."""
    text = item.get("metadata", {}).get("resourceVersion", "0")
    return int(text) if str(text).isdigit() else 0


def _is_ahead(resource: Resource, known: Raw, version: int) -> bool:
    # Only with two streams: a lone one is never ahead of its own list, save where the server was put back in time.
    return resource in CUSTOM_RESOURCES and version_of(known) > version


def _name_of(item: Raw) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _owners(item: Raw) -> list[str]:
    return [owner["uid"] for owner in item.get("metadata", {}).get("ownerReferences", ())]


def _same(old: Raw, new: Raw) -> bool:
    return bool(old["metadata"].get("uid") == new["metadata"].get("uid"))


def _order(key: ObjectKey) -> tuple[str, str, str]:
    return key[0].kind, key[1], key[2]


def _trimmed(resource: Resource, item: Raw) -> Raw:
    # managedFields are half of a small object's size, and nobody here reads them. Items of a list lack their kind.
    metadata: dict[str, Any] = {name: value for name, value in item["metadata"].items() if name != "managedFields"}
    return {**item, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
