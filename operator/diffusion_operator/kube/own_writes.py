"""Remembers what we wrote, so that nothing is decided on a view that is older than our own last write.

The idea is argo-rollouts' (`utils/resourceversion/tracker.go`). The memory is lost with the process, which is safe:
every write is idempotent or carries preconditions. It only spares work that would be refused or repeated.
"""

import time
from dataclasses import dataclass

from diffusion_operator.kube.resources import Resource
from diffusion_operator.kube.store import Store, version_of
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.plan import ObjectReference


@dataclass(frozen=True)
class _Write:
    """`version` is what the object became; `deleted` is the UID of an object that was deleted."""

    at: float
    version: int = 0
    deleted: str = ""


class OwnWrites:
    """The newest write to each object, grouped by the custom resource on whose behalf it was made."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writes: dict[object, dict[tuple[Resource, str, str], _Write]] = {}

    def note(self, key: object, resource: Resource, written: Raw) -> None:
        """Remember an answer of the API server to a write made for `key`."""
        metadata = written["metadata"]
        target = (resource, metadata.get("namespace", ""), metadata["name"])
        self._writes.setdefault(key, {})[target] = _Write(time.monotonic(), version_of(written))

    def note_deleted(self, key: object, resource: Resource, reference: ObjectReference) -> None:
        """Remember that this object is gone, or is going."""
        target = (resource, reference.namespace, reference.name)
        self._writes.setdefault(key, {})[target] = _Write(time.monotonic(), deleted=reference.uid)

    def is_ahead(self, key: object) -> bool:
        """Whether the store has yet to show something that we wrote for `key`."""
        writes = self._writes.get(key, {})
        for target in [target for target, write in writes.items() if self._shown(target, write)]:
            del writes[target]
        if not writes:
            self._writes.pop(key, None)
        return bool(writes)

    def forget(self, key: object) -> None:
        """The custom resource is gone."""
        self._writes.pop(key, None)

    def _shown(self, target: tuple[Resource, str, str], write: _Write) -> bool:
        resource, namespace, _ = target
        position = self._store.position(resource, namespace)
        if position.listed_at > write.at:
            return True
        live = self._store.get(*target) or {}
        if write.deleted:
            metadata = live.get("metadata", {})
            return metadata.get("uid") != write.deleted or "deletionTimestamp" in metadata
        return max(position.resource_version, version_of(live)) >= write.version
