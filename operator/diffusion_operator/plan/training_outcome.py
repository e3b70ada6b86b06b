"""Whether a run has ended, and how. First match wins, and an end is for ever."""

from dataclasses import dataclass
from typing import Literal

from diffusion_contract.exit_codes import ExitCode
from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.observe.training_world import TrainingWorld, Worker
from diffusion_operator.plan.training_progress import Learned
from diffusion_operator.plan.training_restarts import Restarts, ending, why_it_crashed


@dataclass(frozen=True)
class Outcome:
    """The end of a run: its reason (a CamelCase word) and the sentence that says why."""

    phase: Literal["Succeeded", "Failed"]
    reason: str
    message: str


def outcome(
    world: TrainingWorld, training: TrainingCustomResource, learned: Learned, restarts: Restarts
) -> Outcome | None:
    """The end that the facts prove; None while the run goes on."""
    return _succeeded(training, learned) or _refused(world) or _too_many_restarts(training, restarts)


def _succeeded(training: TrainingCustomResource, learned: Learned) -> Outcome | None:
    """An exit code 0 proves nothing by itself: the target may have been raised since that worker read it."""
    target = training.spec.training.target_steps
    if learned.committed is None or learned.committed.step < target:
        return None
    if training.spec.publish is None:
        return Outcome("Succeeded", "TargetReached", f"step {target} is committed")
    if learned.published is None or learned.published.step < target:
        return None
    return Outcome(
        "Succeeded", "Published", f"step {target} is committed and published as {learned.published.reference}"
    )


def _refused(world: TrainingWorld) -> Outcome | None:
    """Exit codes 64 and 93: nothing that we could do would change the answer."""
    for worker in world.workers:
        if ending(worker, world) == "Refused":
            return _words_of(worker)
    for job in world.jobs:
        if job.outcome == "Failed":
            return Outcome("Failed", "JobFailed", f"Job {job.name} failed: {job.message or 'it says no reason'}")
    return None


def _words_of(worker: Worker) -> Outcome:
    words, code = worker.pod.last_words, worker.pod.exit_code
    refused = code == ExitCode.CONFIGURATION_REFUSED
    reason = "ConfigurationRefused" if refused else "DoNotRetry"
    if words is None:
        return Outcome("Failed", reason, f"pod {worker.pod.name} ended with exit code {code} and left no message")
    where = f"{words.path}: " if words.path else ""
    return Outcome("Failed", words.reason or reason, f"{where}{words.message or 'no more is known'}")


def _too_many_restarts(training: TrainingCustomResource, restarts: Restarts) -> Outcome | None:
    limit = training.spec.failure_policy.max_restarts
    if restarts.counted <= limit:
        return None
    last = max(restarts.crashes, key=lambda worker: worker.pod.finished, default=None)
    why = why_it_crashed(last.pod) if last else ""
    how = f": the last worker ended with exit code {last.pod.exit_code}" if last else ""
    said = f" ({why})" if why else ""
    return Outcome(
        "Failed",
        "TooManyRestarts",
        f"workers crashed {restarts.counted} times, and failurePolicy.maxRestarts is {limit}{how}{said}",
    )
