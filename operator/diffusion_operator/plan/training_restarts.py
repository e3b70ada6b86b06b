"""How workers ended, and each end counted exactly once.

A pod that has ended is looked at in every pass until it is gone, and the operator may be killed between any two of
them. So the status carries the UIDs of ended pods that have been counted, and drops each as soon as the pod no longer
exists and is no member: then nobody can count it again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from diffusion_contract.exit_codes import ExitCode
from diffusion_operator.observe.pods import PodFacts
from diffusion_operator.observe.training_history import TrainingHistory
from diffusion_operator.observe.training_world import TrainingWorld, Worker
from diffusion_operator.plan.timestamps import from_timestamp, to_timestamp

Ending = Literal["Done", "Refused", "Ours", "Disruption", "Crash"]

_FINAL = (ExitCode.CONFIGURATION_REFUSED, ExitCode.DO_NOT_RETRY)


@dataclass(frozen=True)
class Restarts:
    """The counters to store. `crashes`, `disrupted` and `vanished` (UIDs) are what this pass adds to them.

    `crash_generation`: the newest generation of this attempt that ended in a counted crash; None while none did.
    """

    counted: int
    disruptions: int
    recorded: frozenset[str]
    last_crash: str
    crash_generation: int | None = None
    crashes: tuple[Worker, ...] = ()
    disrupted: tuple[Worker, ...] = ()
    vanished: frozenset[str] = frozenset()


def ending(worker: Worker, world: TrainingWorld) -> Ending | None:
    """What the end of a worker means; None while it lives. First match wins."""
    pod = worker.pod
    if not pod.terminal:
        return None
    if pod.exit_code == ExitCode.TARGET_COMMITTED:
        return "Done"
    if pod.exit_code in _FINAL:
        return "Refused"
    if pod.disruption or pod.lost_container or worker.noticed or worker.node.state in ("Unreachable", "Unknown"):
        return "Disruption"
    if _is_our_doing(worker, world):
        return "Ours"
    if pod.deleting or pod.exit_code is None or pod.exit_code == ExitCode.RUN_AGAIN:
        return "Disruption"
    return "Crash"


def why_it_crashed(pod: PodFacts) -> str:
    """What is known of a crash beyond its exit code, with the remedy where there is one; empty without."""
    if pod.oom_killed:
        return "it used more memory than its limit: raise spec.workers.resources.limits.memory"
    if pod.start_error:
        return f"its container could not be started: {pod.start_error}: correct spec.workers.image"
    return pod.last_words.message if pod.last_words else ""


def _is_our_doing(worker: Worker, world: TrainingWorld) -> bool:
    """Whether we asked for this end: the run is stopping, or its pool has become smaller."""
    leaves = worker.pod.deleting or worker.pod.exit_code == ExitCode.RUN_AGAIN
    return leaves and (bool(world.history.rendezvous.stop) or is_superfluous(worker, world))


def is_superfluous(worker: Worker, world: TrainingWorld) -> bool:
    """Whether a worker's pool has become too small for it, or is no more.

    That is for the spec to say. A Job that is smaller says it too; one that is gone, or is being deleted, says nothing.
    """
    pools = world.training.spec.effective_pools if world.training else ()
    sizes = {job.pool: job.size for job in world.jobs if not job.deleting}
    wanted = {pool.name: min(pool.size, sizes.get(pool.name, pool.size)) for pool in pools}
    return worker.pool not in wanted or (worker.index or 0) >= wanted[worker.pool]


def count_restarts(world: TrainingWorld) -> Restarts:
    """The stored counters plus the ends that are seen for the first time."""
    history = world.history
    fresh = [worker for worker in world.workers if worker.pod.uid not in history.recorded]
    crashes = tuple(worker for worker in fresh if ending(worker, world) == "Crash")
    disrupted = tuple(worker for worker in fresh if ending(worker, world) == "Disruption")
    vanished = _vanished(world)
    counted_now = {worker.pod.uid for worker in (*crashes, *disrupted)} | vanished
    before = -1 if history.crash_generation is None else history.crash_generation
    newest = max((_generation_of(worker, history) for worker in crashes), default=-1)
    return Restarts(
        counted=history.counted + (newest > before),
        disruptions=history.disruptions + len(disrupted) + len(vanished),
        recorded=_still_needed(history, world) | counted_now,
        last_crash=_latest([history.last_crash, *(worker.pod.finished for worker in crashes)]),
        crash_generation=history.crash_generation if newest <= before else newest,
        crashes=crashes,
        disrupted=disrupted,
        vanished=vanished,
    )


def _generation_of(worker: Worker, history: TrainingHistory) -> int:
    """The newest generation that a worker is known to have been in; 0 is none.

    Workers that fail together are one restart of the run, and the last of them are seen when the next generation has
    been made already. So a crash counts only if its worker has come further than the crash before.
    """
    if worker.report is not None:
        return max(worker.report.generation, worker.report.broken or 0)
    return history.rendezvous.generation if worker.pod.uid in history.rendezvous.uids else 0


def _latest(times: Iterable[str]) -> str:
    """The latest of those that can be read, as RFC 3339; empty where none can."""
    known = [moment for moment in map(from_timestamp, times) if moment is not None]
    return to_timestamp(max(known)) if known else ""


def _vanished(world: TrainingWorld) -> frozenset[str]:
    """Workers that were taken away, or still are members, and whose pods are gone without a trace of how they ended.

    A node that dies for good takes its pods' objects along.
    """
    history = world.history
    members = frozenset() if history.rendezvous.stop else history.rendezvous.uids
    known = {worker.pod.uid for worker in world.workers} | history.recorded
    return (members | _taken_away(history)) - known


def _taken_away(history: TrainingHistory) -> frozenset[str]:
    return frozenset(entry.uid for entry in history.preemptions if entry.uid)


def _still_needed(history: TrainingHistory, world: TrainingWorld) -> frozenset[str]:
    """Recorded UIDs that could still be counted a second time."""
    pods = {worker.pod.uid for worker in world.workers}
    return history.recorded & (pods | history.rendezvous.uids | _taken_away(history))
