"""Conditions as kstatus, Flux, Argo CD and `kubectl wait` read them.

A plan states each condition as (type, status, reason, message). Here they become the list in `status.conditions`:
a condition that keeps its status keeps its `lastTransitionTime`, so a pass that learns nothing new writes nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from diffusion_operator.plan.timestamps import from_timestamp, to_timestamp

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


Health = Literal["Ready", "Reconciling", "Stalled"]
"""How kstatus is to see a resource: `Current`, `InProgress`, or `Failed`, where somebody outside has to help."""


def kstatus(health: Health, reason: str, message: str) -> list[Condition]:
    """The three conditions that kstatus reads; `health` is the one that holds."""
    return [Condition(kind, "True" if kind == health else "False", reason, message) for kind in get_args(Health)]


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
