"""What every child has in common: its name, its labels, its owner, and a way to hash what we asked for.

Names are functions of the owner's UID, a role and an attempt or a revision: a pass that is repeated makes the same
objects again and never a second set, and a custom resource that was deleted and created anew under its old name does
not meet the children of its former life.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_contract.names import (
    API_VERSION,
    COMPONENT_LABEL,
    INSTANCE_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NAME_LABEL,
    PART_OF_LABEL,
)

Manifest = dict[str, Any]
"""One Kubernetes object as JSON-ready data."""

DNS_LABEL_LIMIT = 63
"""Longest name of a Service, a host or a label value (RFC 1123)."""


@dataclass(frozen=True)
class Owner:
    """The custom resource that children belong to. They live in its namespace and die with it."""

    kind: str
    name: str
    namespace: str
    uid: str


def short_digest(text: str, length: int = 8) -> str:
    """The first `length` (1 to 64) hex digits of the sha256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def child_name(owner: Owner, *parts: str, limit: int = DNS_LABEL_LIMIT) -> str:
    """A DNS label `<owner's name>-<parts>-<digest of the owner's UID>` of at most `limit` characters.

    Only the owner's name is shortened, so two different `parts` of one owner never meet.
    """
    tail = "-".join([*parts, short_digest(owner.uid)])
    head = owner.name.replace(".", "-")[: max(limit - len(tail) - 1, 0)].rstrip("-")
    return f"{head}-{tail}" if head else tail


def label_value(name: str) -> str:
    """`name` as a label value: itself up to 63 characters, else its beginning and a digest of the whole."""
    if len(name) <= DNS_LABEL_LIMIT:
        return name
    return f"{name[: DNS_LABEL_LIMIT - 9].rstrip('-._')}-{short_digest(name)}"


def common_labels(owner: Owner, component: str) -> dict[str, str]:
    """The recommended labels; `component` is what the child is for (trainer, engine, router)."""
    return {
        NAME_LABEL: f"diffusion-{component}",
        INSTANCE_LABEL: label_value(owner.name),
        COMPONENT_LABEL: component,
        PART_OF_LABEL: "diffusion-operator",
        MANAGED_BY_LABEL: MANAGED_BY,
    }


def owner_reference(owner: Owner) -> dict[str, Any]:
    """The controller reference by which the garbage collector removes a child together with its owner."""
    return {
        "apiVersion": API_VERSION,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def child_metadata(
    owner: Owner, name: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The `metadata` of a child in its owner's namespace."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": owner.namespace,
        "labels": dict(labels),
        "ownerReferences": [owner_reference(owner)],
    }
    return metadata | ({"annotations": dict(annotations)} if annotations else {})


def spec_hash(content: object) -> str:
    """Sixteen hex digits over JSON-ready `content`, the same for every order of keys."""
    return short_digest(json.dumps(content, sort_keys=True, separators=(",", ":")), 16)
