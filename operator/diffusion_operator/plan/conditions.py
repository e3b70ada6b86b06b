"""Conditions as kstatus, Flux, Argo CD and `kubectl wait` read them.

A plan states each condition as (type, status, reason, message). Here they become the list in `status.conditions`:
a condition that keeps its status keeps its `lastTransitionTime`, so a pass that learns nothing new writes nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

ConditionStatus = Literal["True", "False", "Unknown"]
MESSAGE_LIMIT = 1024
"""Longest message that we write, in characters (the API allows 32,768)."""


@dataclass(frozen=True)
class Condition:
    """One statement about a custom resource. `reason` is a CamelCase word, `message` a sentence that says why."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def to_timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes `metav1.Time`. `moment` must know its zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_timestamp(text: object) -> datetime | None:
    """The moment that an RFC 3339 text names; None where there is none or it cannot be read.

    Neither can a year that no cluster has seen: `metav1.Time` writes "never" as year 1, and a delay after the year 9999
    is beyond the calendar.
    """
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if moment is None or not 1970 < moment.year < 9000:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_left(since: datetime | None, seconds: float, now: datetime) -> float:
    """How much of the `seconds` after `since` is left, and never more than all; 0 where nobody knows since when.

    A `since` that lies further ahead than they last was written before a clock was put back, perhaps by hours: it says
    nothing any more, and nobody waits for it. One that is a little ahead comes of another machine's clock.
    """
    if since is None:
        return 0.0
    left = seconds - (now - since).total_seconds()
    return min(left, seconds) if 0 < left <= 2 * seconds else 0.0


def ready(reason: str, message: str) -> tuple[Condition, ...]:
    """The kstatus three of a resource that is as its spec asks: kstatus reads `Current`."""
    return _kstatus("True", "False", "False", reason, message)


def reconciling(reason: str, message: str) -> tuple[Condition, ...]:
    """The kstatus three of a resource on its way: kstatus reads `InProgress`."""
    return _kstatus("False", "True", "False", reason, message)


def stalled(reason: str, message: str) -> tuple[Condition, ...]:
    """The kstatus three of a resource that will not move without help from outside: kstatus reads `Failed`."""
    return _kstatus("False", "False", "True", reason, message)


def _kstatus(
    is_ready: ConditionStatus, is_reconciling: ConditionStatus, is_stalled: ConditionStatus, reason: str, message: str
) -> tuple[Condition, ...]:
    return (
        Condition("Ready", is_ready, reason, message),
        Condition("Reconciling", is_reconciling, reason, message),
        Condition("Stalled", is_stalled, reason, message),
    )


def stamped(
    conditions: Iterable[Condition], previous: Sequence[Mapping[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """`conditions` as they stand in a status: with `observedGeneration` and the time of their last transition.

    `previous` are the conditions stored so far; anything unreadable in them counts as not there.
    """
    stored = {old["type"]: old for old in previous if isinstance(old, Mapping) and isinstance(old.get("type"), str)}
    return [_stamp(condition, stored.get(condition.type, {}), generation, now) for condition in conditions]


MEANWHILE = "; meanwhile "
"""What stands in a message between why an edit is not carried out and what runs on."""


def kept(message: str, stored: str, start: str) -> str:
    """`stored` where it says the same as `message` but for numbers after `start`, with which both begin; or `message`.

    For sentences of others that count things (nodes, ports, seconds) each time anew: an object that waits must not be
    written each time that a scheduler or a kubelet tries again. What we say ourselves before it is `start`.
    """
    same = stored.startswith(start) and _without_numbers(message[:MESSAGE_LIMIT]) == _without_numbers(stored)
    return stored if same else message


def _without_numbers(sentence: str) -> str:
    return re.sub(r"\d+", "#", sentence)


def _word(reason: str) -> str:
    """`reason` as the API accepts it: workloads may have written it, and one bad letter would refuse the status."""
    return re.sub(r"[^A-Za-z0-9_]", "", reason).lstrip("0123456789_")[:64] or "Unknown"


def _stamp(condition: Condition, old: Mapping[str, Any], generation: int, now: datetime) -> dict[str, Any]:
    unchanged = old.get("status") == condition.status and from_timestamp(old.get("lastTransitionTime")) is not None
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": _word(condition.reason),
        "message": condition.message[:MESSAGE_LIMIT],
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if unchanged else to_timestamp(now),
    }
