"""From what the processes of a pod say to what the pod reports: pure functions."""

from collections.abc import Iterable, Mapping
from typing import Any

from diffusion_contract.agent_messages import TerminationMessage, TrainerReport, TrainerState
from diffusion_contract.exit_codes import ExitCode
from diffusion_trainer.process_messages import ProcessUpdate

URGENT = frozenset(
    {
        "state",
        "generation",
        "broken",
        "committed",
        "verified",
        "passed_over",
        "save_failure",
        "recovery",
        "published",
        "message",
    }
)
"""Fields whose change is reported at once; the others are progress."""

_EARLIEST_FIRST: tuple[TrainerState, ...] = (
    "Failed", "Starting", "Ready", "Regrouping", "Leaving", "Training", "Publishing", "Finished",
)  # fmt: skip

AGREED_ENDS = (ExitCode.TARGET_COMMITTED, ExitCode.RUN_AGAIN)
"""Exit codes to which all processes of a pod come together; with any other one the pod ends at once."""

Known = Mapping[str, Any]
"""Fields of ProcessUpdate as one process has told them so far."""


def merged(known: Known, update: ProcessUpdate) -> dict[str, object]:
    """What is known of a process after its update: fields that it set replace what was known."""
    return {**known, **{name: getattr(update, name) for name in update.model_fields_set}}


def is_urgent(known: Known, update: ProcessUpdate) -> bool:
    """True if the update changes something that the operator should hear at once."""
    return any(name in URGENT and getattr(update, name) != known.get(name) for name in update.model_fields_set)


def worker_report(processes: Iterable[Known], attempt: int, ready: bool, terminating: bool) -> TrainerReport:
    """One report for the pod. It is where its slowest process is; what one process knows of commits, all know."""
    known = list(processes)
    if not ready or not known:
        return TrainerReport(attempt=attempt, state="Starting", leaving=terminating)
    state = min((str(one.get("state") or "Starting") for one in known), key=lambda name: _EARLIEST_FIRST.index(name))
    first = known[0]
    fields: dict[str, object] = {
        "attempt": attempt,
        "state": state,
        "leaving": terminating or state == "Leaving",
        "generation": min(_number(one, "generation") or 0 for one in known),
        "broken": max((number for one in known if (number := _number(one, "broken")) is not None), default=None),
        "step": max((number for one in known if (number := _number(one, "step")) is not None), default=None),
        "passed_over": first.get("passed_over") or (),
        "message": next((one["message"] for one in known if one.get("message")), ""),
    }
    for name in ("loss", "samples_per_second", "samples_seen", "save_failure", "save_seconds", "recovery", "published"):
        fields[name] = next((one[name] for one in known if one.get(name) is not None), None)
    for name in ("committed", "verified"):
        fields[name] = max((one[name] for one in known if one.get(name)), key=lambda ref: ref.step, default=None)
    return TrainerReport.model_validate(fields)


def exit_code_for(codes: Iterable[int]) -> int | None:
    """What the exit codes of the processes that have ended make of the pod's: the gravest of them; None without any.

    A process killed by a signal (a negative code) counts as 128 and the signal, as a shell says it.
    """
    ended = list(codes)
    for decisive in (ExitCode.CONFIGURATION_REFUSED, ExitCode.DO_NOT_RETRY):
        if decisive in ended:
            return int(decisive)
    if crashed := [code for code in ended if code not in AGREED_ENDS]:
        return crashed[0] if crashed[0] > 0 else 128 - crashed[0]
    if ExitCode.RUN_AGAIN in ended:
        return int(ExitCode.RUN_AGAIN)
    return int(ExitCode.TARGET_COMMITTED) if ended else None


_REASONS: dict[int, str] = {
    ExitCode.TARGET_COMMITTED: "Finished",
    ExitCode.CONFIGURATION_REFUSED: "ConfigurationRefused",
    ExitCode.RUN_AGAIN: "RunAgain",
    ExitCode.DO_NOT_RETRY: "DoNotRetry",
}


def last_words(report: TrainerReport, code: int, message: str, path: str | None) -> TerminationMessage:
    """The termination message: what the operator must know even if every report was lost."""
    return TerminationMessage(
        reason=_REASONS.get(code, "Crashed"),
        message=message or report.message,
        path=path,
        step=report.step,
        committed=report.committed,
        published=report.published,
    )


def _number(known: Known, name: str) -> int | None:
    value = known.get(name)
    return value if isinstance(value, int) else None
