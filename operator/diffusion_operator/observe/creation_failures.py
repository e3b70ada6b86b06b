"""Why a controller could not make a pod. A Job has no condition for that: its controller says it in events only."""

import re
from collections.abc import Iterable

from diffusion_operator.observe.raw_values import condition_of, integer_at, mapping_at, text_at
from diffusion_operator.observe.snapshot import Raw

CREATION_FAILED = "FailedCreate"
"""Reason of the event."""

_AROUND = re.compile(r'^(\(combined from similar events\): )?(Error creating: )?(pods "[^"]*" is forbidden: )?')
"""What stands before the cause. The name of the pod that was not made is another one in each try."""


def jobs_short_of_pods(children: Iterable[Raw]) -> tuple[str, ...]:
    """UIDs of the Jobs that stay and run fewer pods than they should, and at which their controller has looked."""
    return tuple(
        text_at(child, "metadata", "uid")
        for child in children
        if child.get("kind") == "Job" and text_at(child, "status", "startTime") and _is_short(child)
    )


def _is_short(job: Raw) -> bool:
    ended = any(condition_of(job, kind).get("status") == "True" for kind in ("Complete", "Failed", "FailureTarget"))
    active = integer_at(job, "status", "active") or 0
    over = ended or bool(text_at(job, "metadata", "deletionTimestamp"))
    return not over and active < (integer_at(job, "spec", "parallelism") or 0)


def creation_failure(events: Iterable[Raw], not_before: str) -> str:
    """The cause that the newest event tells; empty where there is none since `not_before` (RFC 3339, or empty)."""
    newest = max(events, key=last_seen, default=None)
    if newest is None or last_seen(newest) < not_before:
        return ""
    return refusal_in(text_at(newest, "note"))


def refusal_in(sentence: str) -> str:
    """The cause without what controllers put before it, so that it reads the same in each try."""
    return _AROUND.sub("", sentence)


def refused(sentence: str, otherwise: str) -> tuple[str, str]:
    """The reason for a condition and the sentence with the remedy, of what the API server said against a write.

    `otherwise`: the reason where no quota is exceeded.
    """
    if "exceeded quota" in sentence:
        return "QuotaExceeded", f"{sentence}; raise the ResourceQuota or ask for less"
    if "failed quota" in sentence:  # it counts what the pods do not ask for: `must specify limits.memory for: trainer`
        return otherwise, f"{sentence}; set these in `resources`, or have a LimitRange set them"
    return otherwise, sentence


def last_seen(event: Raw) -> str:
    """When an event was last repeated, to the second. Writers of the old API fill the deprecated fields."""
    times = (
        text_at(mapping_at(event, "series"), "lastObservedTime"),
        text_at(event, "deprecatedLastTimestamp"),
        text_at(event, "eventTime"),
        text_at(event, "metadata", "creationTimestamp"),
    )
    found = max(times)
    return f"{found[:19]}Z" if found else ""
