"""A run that has ended: Succeeded and Failed absorb.

What is left of the run is cleared away. What somebody still wants of it is only noted, in conditions that say what to
do instead: an edit of the spec, and the annotation that asks once more for a spec that cannot be used.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from diffusion_contract.names import RETRY_ANNOTATION
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.conditions import Condition, stamped
from diffusion_operator.plan.plan import Event, Plan
from diffusion_operator.plan.training_children import LEFTOVER_SECONDS, leftover_jobs
from diffusion_operator.plan.training_identity import why_unusable
from diffusion_operator.plan.training_status import stored_conditions

RETRY_REFUSED = "RetryRefused"


def asks_once_more(world: TrainingWorld) -> bool:
    """Whether the annotation has a value that was not there when the run failed."""
    return world.history.phase == "Failed" and world.retry not in ("", world.history.retry)


def after_the_end(world: TrainingWorld, now: datetime) -> Plan:
    """The plan for an ended run that does not begin once more."""
    stored = stored_conditions(world.history.raw)
    notes = stamped(_notes(world), stored, world.generation, now)
    status = _with_notes(world, notes)
    active = any(job.outcome == "Active" and not job.deleting for job in world.jobs)
    return Plan(
        status=None if status == world.history.raw else status,
        events=tuple(Event(one["reason"], one["message"], "Warning") for one in notes if one not in stored),
        delete=leftover_jobs(world, now),
        requeue_seconds=LEFTOVER_SECONDS if active else None,
    )


def _notes(world: TrainingWorld) -> Iterator[Condition]:
    if world.history.raw.get("observedGeneration") != world.generation:
        yield _edit_ignored(world.history.phase)
    if asks_once_more(world):
        said = f"the annotation {RETRY_ANNOTATION} asks once more for a spec that cannot be used: {why_unusable(world)}"
        yield Condition(RETRY_REFUSED, "True", "InvalidSpec", f"{said}; with a corrected one the run begins once more")


def _edit_ignored(phase: str) -> Condition:
    remedy = (
        f"set the annotation {RETRY_ANNOTATION} to another value to try again with it"
        if phase == "Failed"
        else "create another DiffusionTraining"
    )
    return Condition("EditIgnored", "True", "RunHasEnded", f"the spec was edited after the end: {remedy}")


def _with_notes(world: TrainingWorld, notes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The stored status with `notes`. An edit stays noted; a request that is taken back does not."""
    renewed = {RETRY_REFUSED, *(one["type"] for one in notes)}
    stored = stored_conditions(world.history.raw)
    kept = [{**one, "observedGeneration": world.generation} for one in stored if one.get("type") not in renewed]
    news = {"observedGeneration": world.generation, "conditions": [*kept, *notes]}
    return {**world.history.raw, **{name: value for name, value in news.items() if value}}
