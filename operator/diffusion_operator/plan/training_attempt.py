"""When an attempt is over, and what the next rendezvous starts from.

An attempt ends when nobody of it trains any more and nobody will: a replacement inside a Job comes only after the
controller's back-off, a pod of a new Job comes at once. Ending it is one bump of `status.attempt`. Its Jobs carry the
old number from then on, so the next pass, which sees the new number stored, makes new ones and deletes the old.

Never while a survivor trains: every path below asks that no member of the rendezvous is alive, and that is asked of
its pod, not of what we have not heard.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.job import worker_hash
from diffusion_operator.observe.training_history import Rendezvous
from diffusion_operator.observe.training_world import TrainingWorld, Worker
from diffusion_operator.plan.conditions import from_timestamp
from diffusion_operator.plan.membership import Bounds, in_trouble, is_leaving, next_rendezvous, standing, stop
from diffusion_operator.plan.training_progress import Learned
from diffusion_operator.plan.training_restarts import Restarts, ending

STOP_SECONDS = 180
"""Workers that were told to save and leave are given this long; then their Jobs go, with SIGTERM as usual."""

CRASH_SECONDS_LIMIT = 60
"""After n counted crashes the next attempt waits 2^(n-2) seconds, at most this long. The first never waits, nor does a
disruption: new Jobs must come before the controller's back-off lets the old ones make pods again."""


@dataclass(frozen=True)
class NextAttempt:
    """The attempt and rendezvous to store, and how long a finished attempt still waits for its successor."""

    attempt: int
    rendezvous: Rendezvous
    waiting_seconds: float = 0


def next_attempt(
    world: TrainingWorld, training: TrainingCustomResource, learned: Learned, restarts: Restarts, now: datetime
) -> NextAttempt:
    """The same attempt with its next rendezvous, or the next attempt with none yet."""
    stored = world.history
    if stored.attempt == 0:
        return NextAttempt(1, Rendezvous(generation=stored.rendezvous.generation))
    resume = learned.committed.step if learned.committed else None
    rendezvous = _regroup(world, training, resume, now)
    if not _is_over(world, training, rendezvous, now):
        return NextAttempt(stored.attempt, rendezvous)
    waiting = _crash_delay(world, restarts, now)
    if waiting > 0:
        return NextAttempt(stored.attempt, rendezvous, waiting)
    return NextAttempt(stored.attempt + 1, Rendezvous(generation=rendezvous.generation))


def bounds_of(training: TrainingCustomResource) -> Bounds:
    """What the spec says about the size of a generation."""
    workers = training.spec.workers
    on_demand_first = sorted(training.spec.effective_pools, key=lambda pool: pool.capacity != "OnDemand")
    return Bounds(
        minimum=workers.min,
        maximum=workers.max,
        pools=tuple(pool.name for pool in on_demand_first),
        processes=workers.processes_per_worker,
    )


def _regroup(
    world: TrainingWorld, training: TrainingCustomResource, resume_step: int | None, now: datetime
) -> Rendezvous:
    stored = world.history.rendezvous
    reason = _reason_to_stop(world, training)
    if stored.members and reason:
        stored = stop(stored, reason, now)
    return next_rendezvous(stored, world.workers, bounds_of(training), resume_step, now)


def _reason_to_stop(world: TrainingWorld, training: TrainingCustomResource) -> str:
    if training.spec.suspend:
        return "Suspended"
    return "WorkersChanged" if workers_changed(world, training) else ""


def workers_changed(world: TrainingWorld, training: TrainingCustomResource) -> bool:
    """Whether a Job of this attempt was made from another image, template or node choice than the spec has now."""
    wanted = {pool.name: worker_hash(training, pool) for pool in training.spec.effective_pools}
    return any(job.worker_hash not in ("", wanted.get(job.pool, job.worker_hash)) for job in world.jobs)


def _is_over(world: TrainingWorld, training: TrainingCustomResource, rendezvous: Rendezvous, now: datetime) -> bool:
    if rendezvous.stop:
        return not _living_members(world, rendezvous) or _stopped_for_too_long(rendezvous, now)
    if not rendezvous.members and (training.spec.suspend or workers_changed(world, training)):
        return bool(world.jobs)
    staying = _not_known_to_have_ended(world)
    if (rendezvous.members and staying) or any(not is_leaving(worker) or _will_say_why(worker) for worker in staying):
        return False
    return _nobody_is_active(world) and (bool(rendezvous.members) or bool(world.workers))


def _will_say_why(worker: Worker) -> bool:
    """Whether a worker has failed and its pod is about to end: only its exit code says whether to try again."""
    return worker.report is not None and worker.report.state == "Failed"


def _living_members(world: TrainingWorld, rendezvous: Rendezvous) -> list[Worker]:
    """Members that are not known to be lost. A pod on its way out still counts: it may be saving."""
    trouble = in_trouble(rendezvous, world.workers)
    return [w for w in world.workers if w.pod.uid in rendezvous.uids and standing(w, trouble) != "Lost"]


def _not_known_to_have_ended(world: TrainingWorld) -> list[Worker]:
    """Workers whose pod or node does not say that they have ended.

    A silent peer may be left behind on the word of a survivor. Where none survives nothing is gained by haste, and the
    exit codes, which come in a moment, say whether this was a crash that counts.
    """
    return [worker for worker in world.workers if standing(worker, trouble=False) != "Lost"]


def _nobody_is_active(world: TrainingWorld) -> bool:
    """The Jobs' own count agrees: they know of no pods beyond those that we see (and know to be lost)."""
    seen = sum(not worker.pod.terminal for worker in world.workers)
    return sum(job.active for job in world.jobs) <= seen


def _stopped_for_too_long(rendezvous: Rendezvous, now: datetime) -> bool:
    since = from_timestamp(rendezvous.stop_since)
    return since is None or now - since >= timedelta(seconds=STOP_SECONDS)


def _crash_delay(world: TrainingWorld, restarts: Restarts, now: datetime) -> float:
    """Seconds that the next attempt still waits; only after a crash in this attempt."""
    ends = [from_timestamp(w.pod.finished) for w in world.workers if ending(w, world) == "Crash"]
    last = max((end for end in ends if end is not None), default=None)
    if last is None or restarts.counted < 2:
        return 0
    delay = float(min(1 << min(restarts.counted - 2, 10), CRASH_SECONDS_LIMIT))
    return max(0.0, delay - (now - last).total_seconds())


def seconds_until_stop_ends(rendezvous: Rendezvous, now: datetime) -> float | None:
    """When to look again at workers that were told to leave; None while nobody was."""
    since = from_timestamp(rendezvous.stop_since)
    if not rendezvous.stop or since is None:
        return None
    return max(1.0, STOP_SECONDS - (now - since).total_seconds())


def without_members(rendezvous: Rendezvous) -> Rendezvous:
    """The rendezvous of a run that has ended: its number stays, nobody is in it."""
    return replace(rendezvous, members=(), leaving=(), stop="", stop_since="", why="", resume_step=None)
