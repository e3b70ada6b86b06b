"""When an attempt is over, and what the next rendezvous starts from.

An attempt ends when nobody of it trains any more and nobody will: a replacement inside a Job comes only after the
controller's back-off, a pod of a new Job comes at once. Ending it is one bump of `status.attempt`. Its Jobs carry the
old number from then on, so the next pass, which sees the new number stored, makes new ones and deletes the old.

Never while a survivor trains: every path below asks that no member of the rendezvous is alive, and that is asked of
its pod, not of what we have not heard.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.observe.training_history import Rendezvous
from diffusion_operator.observe.training_world import TrainingWorld, Worker
from diffusion_operator.plan.membership import (
    Bounds,
    in_trouble,
    is_leaving,
    next_rendezvous,
    standing,
    stop,
    survivors,
    without_members,
)
from diffusion_operator.plan.timestamps import from_timestamp, seconds_left, to_timestamp
from diffusion_operator.plan.training_image_trial import may_leave
from diffusion_operator.plan.training_progress import Learned
from diffusion_operator.plan.training_restarts import Restarts, ending

STOP_SECONDS = 180
"""Workers that were told to save and leave are given this long; then their Jobs go, with SIGTERM as usual."""

BACK_OFF_LIMIT = 60
"""After n counted crashes, or n attempts since the newest checkpoint, the next attempt waits 2^(n-2) seconds, at most
so long. It stands in the status while it waits, so the old Jobs go at once, and their controller replaces nobody."""


_WANTED_STOPS = frozenset({"Suspended", "WorkersChanged"})


@dataclass(frozen=True)
class NextAttempt:
    """The attempt and rendezvous to store.

    `no_progress`: attempts that had to be begun since the newest checkpoint. `start`: from when on this attempt may
    have Jobs (RFC 3339); empty where it need not wait.
    """

    attempt: int
    rendezvous: Rendezvous
    no_progress: int = 0
    start: str = ""


def next_attempt(
    world: TrainingWorld, training: TrainingCustomResource, learned: Learned, restarts: Restarts, now: datetime
) -> NextAttempt:
    """The same attempt with its next rendezvous, or the next attempt with none yet."""
    stored = world.history
    if stored.attempt == 0:
        return NextAttempt(1, Rendezvous(generation=stored.rendezvous.generation))
    resume = learned.committed.step if learned.committed else None
    rendezvous = _regroup(world, training, resume, now)
    tries = 0 if learned.committed != stored.committed else stored.no_progress
    if not _is_over(world, training, rendezvous, now):
        return NextAttempt(stored.attempt, rendezvous, tries, stored.next_attempt_time)
    if not (rendezvous.stop in _WANTED_STOPS or training.spec.suspend):
        tries += 1
    start = _next_start(world, restarts, tries, now)
    return NextAttempt(stored.attempt + 1, without_members(rendezvous), tries, start)


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
    reason = _reason_to_stop(world, training, now)
    if stored.members and reason:
        stored = stop(stored, reason, now)
    return next_rendezvous(stored, world.workers, bounds_of(training), resume_step, now)


def _reason_to_stop(world: TrainingWorld, training: TrainingCustomResource, now: datetime) -> str:
    if training.spec.suspend:
        return "Suspended"
    return "WorkersChanged" if may_leave(world, training, now) else ""


def _is_over(world: TrainingWorld, training: TrainingCustomResource, rendezvous: Rendezvous, now: datetime) -> bool:
    if rendezvous.stop:
        return not _living_members(world, rendezvous) or _stopped_for_too_long(rendezvous, now)
    if not rendezvous.members and (training.spec.suspend or may_leave(world, training, now)):
        return bool(world.jobs)
    trained = world.history.rendezvous
    if survivors(trained, world.workers) or not _nobody_is_active(world):
        return False
    if _may_write_unseen(world) or _has_finished(world):
        return True
    has_lost = bool(trained.members) or any(worker.pod.terminal for worker in world.workers)
    return bool(world.workers or trained.members) and not any(_may_begin(w, has_lost) for w in world.workers)


def _has_finished(world: TrainingWorld) -> bool:
    """Whether a worker has ended with "target committed", as seen in its pod or kept by its Job.

    Where the run goes on all the same, its target has been raised since that worker read it.
    """
    return any(ending(worker, world) == "Done" for worker in world.workers) or any(job.succeeded for job in world.jobs)


def _may_write_unseen(world: TrainingWorld) -> bool:
    """Whether somebody who trained is gone, and no pod proves that it has ended.

    Commits are fenced by attempt, so whoever goes on from the checkpoint must do so in another one.
    """
    ended = {worker.pod.uid for worker in world.workers if worker.pod.terminal}
    return bool(world.history.rendezvous.uids - ended)


def _may_begin(worker: Worker, has_lost: bool) -> bool:
    """Whether it is worth waiting for a worker where nobody trains.

    Once the attempt `has_lost` anybody, a pod without a node is not: the pods of new Jobs come sooner than those by
    which the controller replaces what was lost. A pod that has failed and is about to end is waited for: only its exit
    code says whether to try again.
    """
    if standing(worker, trouble=False) == "Lost":
        return False
    if worker.report is not None and worker.report.state == "Failed":
        return True
    return not is_leaving(worker) and (bool(worker.pod.node) or not has_lost)


def _living_members(world: TrainingWorld, rendezvous: Rendezvous) -> list[Worker]:
    """Members that are not known to be lost. A pod on its way out still counts: it may be saving."""
    trouble = in_trouble(rendezvous, world.workers)
    return [w for w in world.workers if w.pod.uid in rendezvous.uids and standing(w, trouble) != "Lost"]


def _nobody_is_active(world: TrainingWorld) -> bool:
    """The Jobs' own count agrees: they know of no pods beyond those that we see (and know to be lost)."""
    seen = sum(not worker.pod.terminal for worker in world.workers)
    return sum(job.active for job in world.jobs) <= seen


def _stopped_for_too_long(rendezvous: Rendezvous, now: datetime) -> bool:
    return not seconds_left(from_timestamp(rendezvous.stop_since), STOP_SECONDS, now)


def _next_start(world: TrainingWorld, restarts: Restarts, no_progress: int, now: datetime) -> str:
    """From when on the next attempt may have Jobs (RFC 3339); empty where that is now."""
    times = [now + timedelta(seconds=back_off_seconds(no_progress))]
    ends = [from_timestamp(w.pod.finished) for w in world.workers if ending(w, world) == "Crash"]
    times += [end + timedelta(seconds=back_off_seconds(restarts.counted)) for end in ends if end is not None]
    return to_timestamp(max(times)) if max(times) > now else ""


def back_off_seconds(times: int) -> int:
    """How long an attempt waits after `times` crashes, or attempts without a checkpoint: the first never waits."""
    return 0 if times < 2 else min(1 << min(times - 2, 10), BACK_OFF_LIMIT)


def seconds_until_start(next_attempt_time: str, now: datetime) -> float:
    """How long the stored attempt still waits before it may have Jobs; 0 where it does not wait."""
    start = from_timestamp(next_attempt_time)
    seconds = 0.0 if start is None else (start - now).total_seconds()
    return seconds if 0 < seconds <= BACK_OFF_LIMIT else 0.0


def seconds_until_stop_ends(rendezvous: Rendezvous, now: datetime) -> float | None:
    """When to look again at workers that were told to leave; None while nobody was."""
    since = from_timestamp(rendezvous.stop_since)
    if not rendezvous.stop or since is None:
        return None
    return max(1.0, seconds_left(since, STOP_SECONDS, now))
