"""What workers have told about the run itself: progress, checkpoints, the published version.

Reports may be lost at any time and a terminated pod's last words may be all that is left, so both are read, and what
is stored stays until something newer is known.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from diffusion_contract.agent_messages import (
    CheckpointReference,
    PassedOver,
    PublishedVersion,
    SaveFailure,
    TerminationMessage,
    TrainerReport,
)
from diffusion_operator.observe.raw_values import integer_at, mapping_at, mappings_at, text_at
from diffusion_operator.observe.training_history import TrainingHistory
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.timestamps import from_timestamp, seconds_left, to_timestamp

PROGRESS_SECONDS = 10
"""Progress alone is written at most this often; a status that is written anyway carries the newest."""

SKIPPED_LIMIT = 10


@dataclass(frozen=True)
class Learned:
    """What is known about the run after this pass. `heard`: whether any worker has reported in this attempt.

    `save_seconds`: what 99 of 100 saves take at most, in tenths; None before the first.
    """

    committed: CheckpointReference | None
    verified: CheckpointReference | None
    published: PublishedVersion | None
    skipped: tuple[PassedOver, ...]
    save_failure: SaveFailure | None
    heard: bool
    save_seconds: float | None = None


def learn(world: TrainingWorld) -> Learned:
    """The stored facts, and what reports and last words add to them."""
    history = world.history
    reports = [worker.report for worker in world.workers if worker.report is not None]
    words = [worker.pod.last_words for worker in world.workers if worker.pod.last_words is not None]
    told: list[TrainerReport | TerminationMessage] = [*reports, *words]
    published = [one for one in (history.published, *(one.published for one in told)) if one is not None]
    return Learned(
        committed=_newest([history.committed, *(one.committed for one in told)]),
        verified=_newest([history.verified, *(report.verified for report in reports)]),
        published=max(published, key=lambda one: one.step, default=None),
        skipped=_skipped(history, reports),
        save_failure=next((report.save_failure for report in reports if report.save_failure is not None), None),
        heard=bool(reports),
        save_seconds=_save_seconds(history, reports),
    )


def _save_seconds(history: TrainingHistory, reports: Iterable[TrainerReport]) -> float | None:
    """It comes with the commit that it was measured at, so it causes no write of its own."""
    told = [_finite(report.save_seconds, 1) for report in reports if report.save_seconds is not None]
    return max((max(seconds, 0.0) for seconds in told if seconds is not None), default=history.save_seconds)


def _newest(references: Iterable[CheckpointReference | None]) -> CheckpointReference | None:
    """By time of commit, not by step: a run that fell back to an older checkpoint commits lower steps again."""
    known = [reference for reference in references if reference is not None]
    return max(known, key=lambda reference: (reference.time, reference.step, reference.digest), default=None)


def _skipped(history: TrainingHistory, reports: Iterable[TrainerReport]) -> tuple[PassedOver, ...]:
    stored = [
        PassedOver(step=max(integer_at(entry, "step") or 0, 0), reason=text_at(entry, "reason"))
        for entry in mappings_at(history.raw, "checkpoint", "skipped")
    ]
    told = sorted((one for report in reports for one in report.passed_over), key=lambda one: (one.step, one.reason))
    return tuple(dict.fromkeys([*stored, *told]))[-SKIPPED_LIMIT:]


def progress(world: TrainingWorld, learned: Learned, target: int, batch: int, trains: bool) -> dict[str, Any]:
    """`status.progress`, from the most advanced worker; `batch` is the global batch size.

    While nobody `trains`, because the run has ended, is suspended or begins anew, no end is in sight to be estimated.
    """
    known = _progress(world, learned, target, batch)
    return known if trains else {name: value for name, value in known.items() if name != "estimatedRemainingSeconds"}


def _progress(world: TrainingWorld, learned: Learned, target: int, batch: int) -> dict[str, Any]:
    stored = dict(mapping_at(world.history.raw, "progress"))
    best = _most_advanced(world)
    committed = learned.committed.step if learned.committed else 0
    if best is None:
        return stored | _position(max(_step(stored), committed), target)
    report, heard = best.report, best.heard
    told = max(report.step or 0, 0)
    # Below the target the newest commit may be one that was passed over; at the target it ends the run.
    step = max(told, _certain_step(best), committed if committed >= target else 0)
    fresh: dict[str, Any] = {**_position(step, target), "lastReportTime": to_timestamp(heard)}
    measured = {
        "loss": _finite(report.loss, 6),
        "samplesPerSecond": _finite(max(report.samples_per_second or 0, 0) or None, 1),
        "samplesSeen": None if report.samples_seen is None else max(report.samples_seen, 0) + (step - told) * batch,
        "estimatedRemainingSeconds": _remaining(report, target - step, batch),
    }
    return fresh | {name: value for name, value in measured.items() if value is not None}


def _step(stored: Mapping[str, Any]) -> int:
    return max(integer_at(stored, "step") or 0, 0)


@dataclass(frozen=True)
class _Reporter:
    """A worker that has told its step."""

    report: TrainerReport
    heard: datetime
    words: TerminationMessage | None


def _most_advanced(world: TrainingWorld) -> _Reporter | None:
    told = [
        _Reporter(worker.report, worker.heard, worker.pod.last_words)
        for worker in world.workers
        if worker.report is not None and worker.heard is not None and worker.report.step is not None
    ]
    return max(
        told, key=lambda one: (one.report.step or 0, one.report.samples_per_second or 0, one.heard), default=None
    )


def _certain_step(worker: _Reporter) -> int:
    """The step that a worker has certainly reached: its last words and its commits may know more than its last report.

    Progress is reported now and then; without this a run would end as `598/600`.
    """
    steps = [worker.words.step if worker.words else None]
    steps += [one.committed.step for one in (worker.report, worker.words) if one is not None and one.committed]
    return max((step for step in steps if step is not None), default=0)


def _position(step: int, target: int) -> dict[str, Any]:
    return {
        "step": step,
        "targetSteps": target,
        "display": f"{step}/{target}",
        "percentage": min(100, 100 * step // target),
    }


def _finite(value: float | None, digits: int) -> float | None:
    return round(value, digits) if value is not None and math.isfinite(value) else None


def _remaining(report: TrainerReport, steps: int, batch: int) -> int | None:
    speed = _finite(report.samples_per_second, 3)
    return math.ceil(max(steps, 0) * batch / speed) if speed and speed > 0 else None


def throttled(status: Mapping[str, Any], stored: Mapping[str, Any], now: datetime) -> tuple[Mapping[str, Any], float]:
    """The status to write, and in how many seconds held-back progress may be written (0 where none is held back).

    Progress that moved alone waits until the stored one is PROGRESS_SECONDS old; a report that moved nothing but its
    own time is never written.
    """
    quiet = {**status, "progress": stored.get("progress")}
    if quiet != stored:
        return status, 0
    if _moved(mapping_at(status, "progress")) == _moved(mapping_at(stored, "progress")):
        return quiet, 0
    last = from_timestamp(text_at(stored, "progress", "lastReportTime"))
    held_back = seconds_left(last, PROGRESS_SECONDS, now)
    return (quiet, held_back) if held_back > 0 else (status, 0)


def _moved(progress: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in progress.items() if name != "lastReportTime"}
