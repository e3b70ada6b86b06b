"""The phase of a run: a checklist, read from the top, and the first line that applies is the answer.

Nothing remembers a phase. It follows each time from the world and from what is about to be stored, so a pass that was
interrupted and one that was not agree on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.observe.training_history import Rendezvous
from diffusion_operator.observe.training_world import TrainingWorld, Worker
from diffusion_operator.plan.conditions import MEANWHILE, Health
from diffusion_operator.plan.membership import in_trouble, standing
from diffusion_operator.plan.timestamps import from_timestamp, to_timestamp
from diffusion_operator.plan.training_attempt import back_off_seconds, seconds_until_start
from diffusion_operator.plan.training_obstacles import obstacles
from diffusion_operator.plan.training_outcome import Outcome
from diffusion_operator.plan.training_progress import Learned
from diffusion_operator.plan.training_restarts import Restarts
from diffusion_operator.plan.training_silence import stands_still

Phase = Literal[
    "Pending", "Starting", "Running", "Draining", "Resizing", "Suspended", "Publishing", "Succeeded", "Failed"
]


@dataclass(frozen=True)
class Verdict:
    """A phase with its reason (a CamelCase word), the sentence that says why, and how kstatus is to see it."""

    phase: Phase
    reason: str
    message: str
    health: Health = "Reconciling"


@dataclass(frozen=True)
class Objection:
    """Why an edit of the spec is not carried out (yet), while the run goes on as it was.

    `reason` is a CamelCase word. `health`: whether somebody has to act.
    """

    reason: str
    message: str
    health: Literal["Reconciling", "Stalled"] = "Stalled"


@dataclass(frozen=True)
class Outlook:
    """The world, and what this pass is about to store about it."""

    world: TrainingWorld
    training: TrainingCustomResource
    attempt: int
    rendezvous: Rendezvous
    restarts: Restarts
    learned: Learned
    outcome: Outcome | None
    now: datetime
    no_progress: int = 0
    next_attempt_time: str = ""
    objection: Objection | None = None

    @property
    def waiting_seconds(self) -> float:
        """How long the coming attempt waits before it may have Jobs; 0 where it does not."""
        return seconds_until_start(self.next_attempt_time, self.now)

    @property
    def members(self) -> tuple[Worker, ...]:
        """The workers of the coming generation whose pods are there."""
        return tuple(worker for worker in self.world.workers if worker.pod.uid in self.rendezvous.uids)


Check = Callable[[Outlook], Verdict | None]


def verdict(outlook: Outlook) -> Verdict:
    """The first check that applies; the last one always does. An objection is said before it, until the run ends."""
    found = next(found for check in CHECKS if (found := check(outlook)) is not None)
    objection = outlook.objection
    if objection is None or outlook.outcome is not None:
        return found
    return Verdict(found.phase, objection.reason, f"{objection.message}{MEANWHILE}{found.message}", objection.health)


def _ended(outlook: Outlook) -> Verdict | None:
    outcome = outlook.outcome
    if outcome is None:
        return None
    return Verdict(
        outcome.phase, outcome.reason, outcome.message, "Ready" if outcome.phase == "Succeeded" else "Stalled"
    )


def _suspended(outlook: Outlook) -> Verdict | None:
    if not outlook.training.spec.suspend:
        return None
    world = outlook.world
    if outlook.rendezvous.stop or world.runs_before or any(not worker.pod.terminal for worker in world.workers):
        return Verdict("Draining", "Suspending", "workers save and leave, because spec.suspend is true")
    return Verdict("Suspended", "Suspended", f"spec.suspend is true; {_newest_checkpoint(outlook)}", "Ready")


def _newest_checkpoint(outlook: Outlook) -> str:
    committed = outlook.learned.committed
    return f"the newest checkpoint is of step {committed.step}" if committed else "there is no checkpoint yet"


_STOPS = {
    "Suspended": "workers save and leave, because spec.suspend was true; the run goes on after that",
    "WorkersChanged": "workers save and leave, because spec.workers or spec.pools asks for other pods",
    "TooFewWorkers": "fewer than spec.workers.min workers are left: they save and leave, then new pods go on",
}


def _stopping(outlook: Outlook) -> Verdict | None:
    stop = outlook.rendezvous.stop
    return Verdict("Draining", stop, _STOPS.get(stop, "workers save and leave")) if stop else None


def _publishing(outlook: Outlook) -> Verdict | None:
    reports = [worker.report for worker in outlook.members if worker.report and worker.report.state == "Publishing"]
    if not reports:
        return None
    if trouble := next((report.message for report in reports if report.message), ""):
        said = f"the target step is committed, but {trouble}; it is tried again and again"
        return Verdict("Publishing", "PublishFailing", said, "Stalled")
    return Verdict("Publishing", "Publishing", "the target step is committed, and its model version is being written")


def _backing_off(outlook: Outlook) -> Verdict | None:
    if outlook.waiting_seconds <= 0:
        return None
    if not _waits_for_a_crash(outlook):
        why = f"the {outlook.no_progress} before it brought no checkpoint"
        return Verdict("Starting", "RestartBackOff", f"attempt {outlook.attempt} waits a little, because {why}")
    limit = outlook.training.spec.failure_policy.max_restarts
    return Verdict(
        "Starting",
        "RestartBackOff",
        f"restart {outlook.restarts.counted} of {limit} waits a little, because every worker crashed",
    )


def _waits_for_a_crash(outlook: Outlook) -> bool:
    """Whether the next attempt waits for the newest crash, and not for want of checkpoints."""
    crash = from_timestamp(outlook.restarts.last_crash)
    delay = timedelta(seconds=back_off_seconds(outlook.restarts.counted))
    return crash is not None and to_timestamp(crash + delay) == outlook.next_attempt_time


def _held_up(outlook: Outlook) -> Verdict | None:
    found = obstacles(outlook.world, outlook.now)
    if outlook.rendezvous.members or not found:
        return None
    first = found[0]
    phase: Phase = "Pending" if first.reason == "Unschedulable" else "Starting"
    return Verdict(phase, first.reason, first.message, "Stalled" if first.stalls else "Reconciling")


def _starting(outlook: Outlook) -> Verdict | None:
    if outlook.rendezvous.members:
        return None
    living = [worker.pod for worker in outlook.world.workers if not worker.pod.terminal]
    if not living or outlook.attempt != outlook.world.history.attempt:
        return Verdict("Pending", "Creating", "workers are being created")
    workers = outlook.training.spec.workers
    wanted = f"waiting until {workers.min} of {workers.max} workers"
    if sum(bool(pod.node) for pod in living) < workers.min:
        return Verdict("Pending", "Scheduling", f"{wanted} have a node")
    return Verdict("Starting", "Starting", f"{wanted} are ready")


def _draining(outlook: Outlook) -> Verdict | None:
    names = [w.pod.name for w in outlook.world.workers if w.pod.uid in outlook.rendezvous.leaving]
    if not names:
        return None
    verb = "saves and leaves" if len(names) == 1 else "save and leave"
    return Verdict("Draining", "WorkersLeaving", f"{', '.join(names)} {verb}; {_together(outlook)}")


def _resizing(outlook: Outlook) -> Verdict | None:
    reports = [worker.report for worker in outlook.members if worker.report is not None]
    generation = outlook.rendezvous.generation
    late = [report for report in reports if report.generation < generation]
    if not late and not in_trouble(outlook.rendezvous, outlook.members):
        return None
    if all(report.step is None for report in reports) and outlook.learned.committed is None:
        return Verdict("Starting", "Rendezvous", f"{_together(outlook)}; they are finding each other")
    return Verdict("Resizing", "Regrouping", f"{outlook.rendezvous.why}; {_together(outlook)}")


def _not_committing(outlook: Outlook) -> Verdict | None:
    """Nothing is left to be trained, and what was cannot be saved."""
    target, failure = outlook.training.spec.training.target_steps, outlook.learned.save_failure
    arrived = any(worker.report is not None and (worker.report.step or 0) >= target for worker in outlook.members)
    if not arrived or failure is None:
        return None
    said = f"step {target} is reached, and waits to be committed: {failure.message}"
    return Verdict("Running", failure.reason, said, "Stalled")


def _standing_still(outlook: Outlook) -> Verdict | None:
    same = outlook.rendezvous.generation == outlook.world.history.rendezvous.generation
    if not same or not stands_still(outlook.world, outlook.now):
        return None
    silent = [worker.pod.name for worker in outlook.members if worker.connected is False]
    who = f"; the operator does not hear {', '.join(silent)}" if silent else ""
    remedy = "look at the logs of the workers: a pod that hangs is replaced when you delete it"
    return Verdict("Resizing", "NoProgress", f"no worker has told of a step for more than a minute{who}; {remedy}")


def _running(outlook: Outlook) -> Verdict:
    missing = outlook.training.spec.workers.max - len(outlook.rendezvous.members)
    found = obstacles(outlook.world, outlook.now)
    more = f"; {missing} more wanted: {found[0].message}" if missing > 0 and found else ""
    return Verdict("Running", "Training", f"{_together(outlook)}{more}", "Ready")


def _together(outlook: Outlook) -> str:
    size, most = len(outlook.rendezvous.members), outlook.training.spec.workers.max
    return f"{size} of {most} workers train as generation {outlook.rendezvous.generation}"


CHECKS: tuple[Check, ...] = (
    _ended,  # terminal phases absorb
    _suspended,
    _stopping,
    _publishing,
    _backing_off,
    _held_up,  # only while nobody trains: an obstacle to the last of four workers stops nothing
    _starting,
    _draining,
    _resizing,
    _not_committing,
    _standing_still,
    _running,
)


def ready_workers(outlook: Outlook) -> int:
    """Workers that train now: members of the coming generation that are not known to be lost or to end."""
    trouble = in_trouble(outlook.rendezvous, outlook.world.workers)
    return sum(standing(worker, trouble) not in ("Lost", "Leaving", "Failed") for worker in outlook.members)
