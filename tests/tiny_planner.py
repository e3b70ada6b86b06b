"""A planner of a few lines that uses every step of a plan: it tests the loop, not the product.

A DiffusionTraining goes through three attempts. Each has a ConfigMap; the next one's start is recorded in the status
before the last one's ConfigMap is deleted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_contract.names import MANAGED_BY, MANAGED_BY_LABEL, TRAINING_LABEL
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.snapshot import Raw, Reference, Snapshot
from diffusion_operator.plan.kind import Kind
from diffusion_operator.plan.plan import Event, Manifest, ObjectReference, Plan

ATTEMPTS = 3


@dataclass(frozen=True)
class TinyWorld:
    """What the tiny planner knows."""

    snapshot: Snapshot
    reports: Mapping[str, AgentRecord]


def config_map(custom_resource: Raw, attempt: int) -> Manifest:
    """The child of one attempt."""
    metadata = custom_resource["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{metadata['name']}-{attempt}",
            "namespace": metadata["namespace"],
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, TRAINING_LABEL: metadata["name"]},
            "ownerReferences": [
                {
                    "apiVersion": custom_resource["apiVersion"],
                    "kind": custom_resource["kind"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "data": {"attempt": str(attempt)},
    }


def decide(world: TinyWorld, now: datetime) -> Plan:
    """One attempt further as soon as the ConfigMap of the present one stands."""
    seen = world.snapshot.custom_resource
    before = seen.get("status", {})
    attempt = before.get("attempt", 0)
    children = {child["metadata"]["name"]: child for child in world.snapshot.children}
    name = seen["metadata"]["name"]
    reached = min(attempt + 1, ATTEMPTS - 1) if f"{name}-{attempt}" in children else attempt
    phase = "Succeeded" if reached == attempt == ATTEMPTS - 1 and f"{name}-{attempt}" in children else "Running"
    status = {"observedGeneration": seen["metadata"]["generation"], "phase": phase, "attempt": reached}
    old = [child for key, child in children.items() if key in {f"{name}-{past}" for past in range(attempt)}]
    return Plan(
        apply=(config_map(seen, reached),),
        status=status,
        instructions={uid: TrainerInstruction(attempt=reached, generation=1) for uid in world.reports},
        events=(Event("Moved", f"attempt {reached} begins"),) if reached != attempt else (),
        delete=tuple(_reference(child) for child in old),
    )


def _reference(child: Raw) -> ObjectReference:
    metadata = child["metadata"]
    return ObjectReference(
        child["apiVersion"],
        child["kind"],
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        metadata["resourceVersion"],
    )


def _references(custom_resource: Raw) -> tuple[Reference, ...]:
    namespace = custom_resource["metadata"]["namespace"]
    return (Reference("v1", "Secret", namespace, "tiny"),)


TINY = Kind("DiffusionTraining", TinyWorld, decide, _references)
KINDS = {TINY.kind: TINY}
