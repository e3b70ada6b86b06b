"""What a reconcile is to do, as data: the whole answer of a `decide`, carried out in order by `loop/reconciler.py`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from diffusion_contract.agent_messages import Instruction

Manifest = Mapping[str, Any]
"""A whole Kubernetes object as it is to be applied: every field in it is owned by the operator, no other field is."""


def manifest_digest(manifest: Manifest) -> str:
    """The name under which the rehearsal of a manifest is remembered: another manifest has another."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ObjectReference:
    """One object that was seen, exactly as it was seen: it is deleted with these as preconditions, or not at all."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True)
class Event:
    """A sentence about the custom resource for `kubectl describe`. `reason` is a CamelCase word."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


@dataclass(frozen=True)
class Plan:
    """The steps of one reconcile, in the order in which they are carried out (docs/architecture.md).

    `apply`: manifests for server-side apply, in this order; nothing is sent for one that is already so.
    `status`: the whole status, or None to leave it; it is written only when it differs from the stored one.
    `instructions`: by pod UID, all that the agents of this custom resource are told; a pod that is not in it is told
    nothing. `events`: said once, after the status is stored, so derive them from what the new status changes.
    `delete`: after that. `rehearse`: manifests of which the API server is asked, last, whether it would take them; its
    answer is for the next pass to see, and nothing is stored. `requeue_seconds`: when to look again without an event;
    None is never.
    """

    apply: tuple[Manifest, ...] = ()
    status: Manifest | None = None
    instructions: Mapping[str, Instruction] = field(default_factory=lambda: MappingProxyType({}))
    events: tuple[Event, ...] = ()
    delete: tuple[ObjectReference, ...] = ()
    rehearse: tuple[Manifest, ...] = ()
    requeue_seconds: float | None = None
