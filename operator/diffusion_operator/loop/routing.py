"""Whose turn it is when something changes: from a changed object to the custom resources that must be looked at."""

from collections.abc import Callable, Iterator

from diffusion_operator.kube.keys import Key, key_of, keys_named_by
from diffusion_operator.kube.references import References
from diffusion_operator.kube.resources import CUSTOM_RESOURCES, NODE, POD
from diffusion_operator.kube.store import Change, Store
from diffusion_operator.observe.snapshot import Raw, Reference


class Router:
    """A listener of the store that puts keys into a queue."""

    def __init__(
        self,
        store: Store,
        references: References,
        enqueue: Callable[[Key], None],
        enqueue_urgently: Callable[[Key], None],
    ) -> None:
        self._store, self._references = store, references
        self._enqueue, self._enqueue_urgently = enqueue, enqueue_urgently

    def changed(self, change: Change) -> None:
        """Enqueue everyone whom this change may concern; too many does no harm, too few would.

        A node that announces its end gives its pods seconds: that cannot wait behind a crowd.
        """
        enqueue = self._enqueue_urgently if change.resource == NODE else self._enqueue
        for key in self._concerned(change):
            enqueue(key)

    def _concerned(self, change: Change) -> Iterator[Key]:
        if change.resource in CUSTOM_RESOURCES:
            key = key_of(change.object)
            yield key
            resource = change.resource
            reference = Reference(resource.api_version, resource.kind, key.namespace, key.name)
            yield from self._references.users(reference)
        elif change.resource == NODE:
            if change.old is None or change.new is None or _vitals(change.old) != _vitals(change.new):
                yield from self._on_node(change.object["metadata"]["name"])
        else:
            for side in (change.old, change.new):
                if side is not None:
                    yield from keys_named_by(side)

    def _on_node(self, name: str) -> Iterator[Key]:
        for pod in self._store.all(POD):
            if pod["spec"].get("nodeName") == name:
                yield from keys_named_by(pod)


def _vitals(node: Raw) -> object:
    """What a node can say that matters to a run; its heartbeats and image lists do not."""
    conditions = node.get("status", {}).get("conditions", ())
    return (
        node["metadata"].get("labels"),
        node["metadata"].get("deletionTimestamp"),
        node.get("spec", {}).get("taints"),
        node.get("spec", {}).get("unschedulable"),
        [(condition.get("type"), condition.get("status")) for condition in conditions],
    )
