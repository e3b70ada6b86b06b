"""Events: what the status that is about to be stored says that the stored one does not, in the same sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from diffusion_operator.observe.raw_values import condition_of, integer_at, mappings_at, text_at
from diffusion_operator.plan.membership import counted_workers
from diffusion_operator.plan.plan import Event
from diffusion_operator.plan.training_phase import Objection, Outlook, Verdict
from diffusion_operator.plan.training_restarts import why_it_crashed

_WARNED = frozenset({"CheckpointSaved", "CheckpointVerified", "GraceSufficient", "Scheduled"})
_QUIET = frozenset({"Waiting", "Succeeded", "Failed", "Suspended"})


def training_events(outlook: Outlook, verdict: Verdict, status: Mapping[str, Any]) -> tuple[Event, ...]:
    """The events of one pass; nothing is said when nothing changed, and nothing is said twice."""
    stored = outlook.world.history.raw
    news = _is_news(outlook.objection, stored)
    found = (*_crashes(outlook), *_generation(outlook), *_bad_news(stored, status), *_phase(stored, verdict, news))
    said = {(event.reason, event.message): event for event in reversed(found)}
    return tuple(event for event in found if said[(event.reason, event.message)] is event)


def _crashes(outlook: Outlook) -> Iterator[Event]:
    limit = outlook.training.spec.failure_policy.max_restarts
    for worker in outlook.restarts.crashes:
        why = why_it_crashed(worker.pod)
        said = f": {why}" if why else ""
        yield Event(
            "WorkerCrashed",
            f"{worker.pod.name} ended with exit code {worker.pod.exit_code}{said} "
            f"({outlook.restarts.counted} of {limit} restarts)",
            "Warning",
        )


def _generation(outlook: Outlook) -> Iterator[Event]:
    before, after = outlook.world.history.rendezvous, outlook.rendezvous
    if after.generation != before.generation:
        workers = counted_workers(len(after.members))
        yield Event("Regrouped", f"generation {after.generation} has {workers}: {after.why}")


def _bad_news(stored: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[Event]:
    """Conditions that turned False, or are False for another reason now."""
    before = {text_at(c, "type"): (c.get("status"), c.get("reason")) for c in mappings_at(stored, "conditions")}
    for condition in mappings_at(status, "conditions"):
        said = (condition.get("status"), condition.get("reason"))
        news = said != before.get(text_at(condition, "type")) and condition.get("status") == "False"
        if text_at(condition, "type") in _WARNED and news and condition.get("reason") not in _QUIET:
            yield Event(text_at(condition, "reason"), text_at(condition, "message"), "Warning")


def _is_news(objection: Objection | None, stored: Mapping[str, Any]) -> bool:
    return objection is not None and text_at(condition_of({"status": stored}, "Stalled"), "reason") != objection.reason


def _phase(stored: Mapping[str, Any], verdict: Verdict, is_news: bool) -> Iterator[Event]:
    if text_at(stored, "phase") == verdict.phase and integer_at(stored, "attempt") and not is_news:
        return
    yield Event(verdict.reason, verdict.message, "Warning" if verdict.health == "Stalled" else "Normal")
