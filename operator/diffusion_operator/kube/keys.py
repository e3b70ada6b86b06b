"""How a custom resource is called, and how its name is read from the objects that belong to it."""

from collections.abc import Iterator
from typing import NamedTuple

from diffusion_contract.names import SERVICE_LABEL, TRAINING_LABEL
from diffusion_operator.kube.resources import MODEL_SERVICE, TRAINING, Resource
from diffusion_operator.observe.snapshot import Raw


class Key(NamedTuple):
    """One custom resource by name: what is queued and reconciled."""

    kind: str
    namespace: str
    name: str


_RESOURCES = {TRAINING.kind: TRAINING, MODEL_SERVICE.kind: MODEL_SERVICE}
_LABELS = {TRAINING_LABEL: TRAINING.kind, SERVICE_LABEL: MODEL_SERVICE.kind}


def resource_of_key(key: Key) -> Resource:
    """The resource of a custom resource's key."""
    return _RESOURCES[key.kind]


def key_of(custom_resource: Raw) -> Key:
    """The key of a custom resource."""
    metadata = custom_resource["metadata"]
    return Key(custom_resource["kind"], metadata["namespace"], metadata["name"])


def keys_named_by(child: Raw) -> Iterator[Key]:
    """The custom resources whose labels this object carries: a hint whom to look at, never a proof of ownership."""
    metadata = child["metadata"]
    for label, name in (metadata.get("labels") or {}).items():
        if kind := _LABELS.get(label):
            yield Key(kind, metadata.get("namespace", ""), name)
