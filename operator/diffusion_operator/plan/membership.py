"""Who trains together: the next generation as a pure function of the stored one and of what is seen.

The rule, in prose
------------------
Every worker stands in one of six ways:

    Lost      its pod has ended, or nobody hears it and there is a second sign: its node does not answer,
              a peer's collectives failed, or its peers stand still. A lost connection alone is a hint and
              changes nothing.
    Leaving   its end is announced: deletion, a notice on its node, DisruptionTarget, or it says so itself.
    Failed    it says so, and ends by itself in a moment: its exit code will say what that means for the run.
    Finished  it has reached the target and is on its way out.
    Ready     its agent is connected, in this attempt, with the libraries imported.
    Unknown   anything else: still starting, or not heard since the operator started.

A generation starts when `minimum` workers are Ready. From then on members that are Ready, Unknown or Finished stay;
Lost, Leaving and Failed ones go. The next generation comes when a member is Lost or Leaving, when a member reports that
its collectives failed, or when a Ready worker waits and there is room. Growth waits while the run is publishing. That a
member has Failed is no reason by itself: where all fail alike, as when training diverges, nobody is left to regroup.

When fewer than `minimum` would be left, the survivors do not wait for replacements (a Job makes them wait 10 s and
more): all that still live save what they have and leave (`stop`), and the next attempt starts from there. Where the
pods or nodes of all members say that they have ended, nobody is a member any more, and `training_attempt` sees whether
the attempt is over. Silence alone empties nothing, and who has Failed needs no word to end.

Invariants (tests/property/test_training_membership.py)
-------------------------------------------------------
- generation never goes back, and goes up by one at most;
- members change only together with generation, or all of them go;
- a member was Ready when it joined, and nobody joins a stopped rendezvous;
- size is at most `maximum`, and at least `minimum` unless `stop` is set;
- `stop` is never taken back within an attempt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from diffusion_operator.observe.training_history import Rendezvous, StoredMember
from diffusion_operator.observe.training_world import Worker
from diffusion_operator.plan.timestamps import to_timestamp

Standing = Literal["Lost", "Leaving", "Failed", "Finished", "Ready", "Unknown"]

BROKEN_PATIENCE = timedelta(seconds=0.5)
"""After "my collectives failed" the dead peer's lost connection follows within 0.3 s. Waiting for it saves a
generation that would still have the dead one in it."""

_AT_WORK = frozenset({"Ready", "Training", "Regrouping", "Publishing"})


@dataclass(frozen=True)
class Bounds:
    """`workers.min` and `workers.max`, the order of the pools, and the processes of each worker."""

    minimum: int
    maximum: int
    pools: tuple[str, ...]
    processes: int = 1


def standing(worker: Worker, trouble: bool) -> Standing:
    """How `worker` stands; `trouble` says that some member's collectives have failed."""
    if _is_lost(worker, trouble):
        return "Lost"
    report = worker.report
    if report is not None and report.state == "Finished":
        return "Finished"
    if is_leaving(worker):
        return "Leaving"
    if report is not None and report.state == "Failed":
        return "Failed"
    if report is not None and worker.connected and report.state in _AT_WORK and worker.pod.address:
        return "Ready"
    return "Unknown"


def _is_lost(worker: Worker, trouble: bool) -> bool:
    if worker.pod.terminal:
        return True
    if worker.connected:
        return False
    silent = worker.connected is False
    return worker.node.state == "Unreachable" or (silent and (trouble or worker.missed or worker.pod.deleting))


def is_leaving(worker: Worker) -> bool:
    """Whether the end of a worker that still runs is announced, by whomever."""
    report = worker.report
    told = report is not None and (report.leaving or report.state == "Leaving")
    return told or worker.pod.deleting or bool(worker.pod.disruption) or worker.noticed


def in_trouble(rendezvous: Rendezvous, workers: Iterable[Worker]) -> bool:
    """Whether a member says that the current generation does not work, or that it is still finding its way into it."""
    reports = [worker.report for worker in workers if worker.pod.uid in rendezvous.uids and worker.report]
    return any(report.broken == rendezvous.generation or report.state == "Regrouping" for report in reports)


def next_rendezvous(
    current: Rendezvous, workers: Sequence[Worker], bounds: Bounds, resume_step: int | None, now: datetime
) -> Rendezvous:
    """The rendezvous to store next; `current` itself where nothing has changed."""
    trouble = in_trouble(current, workers)
    stands = {worker.pod.uid: standing(worker, trouble) for worker in workers}
    leaving = {uid for uid, stand in stands.items() if stand == "Leaving"} | _still_leaving(current, workers)
    seen = replace(current, leaving=tuple(sorted(leaving)))
    if current.stop:
        return seen
    if current.members and not survivors(current, workers):
        return without_members(current)
    if any(w.pod.exit_code == 0 or stands[w.pod.uid] == "Finished" for w in workers):
        return seen
    staying = [m for m in current.members if stands.get(m.uid, "Lost") in ("Ready", "Unknown")]
    joining = [w for w in workers if stands[w.pod.uid] == "Ready" and w.pod.uid not in current.uids]
    failed = 0 if trouble else sum(stands.get(m.uid) == "Failed" for m in current.members)
    if not _is_due(current, workers, len(staying) + failed, joining, bounds, now):
        return seen
    chosen = _ordered(staying, joining, workers, bounds)[: bounds.maximum]
    if len(chosen) >= bounds.minimum:
        return replace(
            seen,
            generation=current.generation + 1,
            members=tuple(chosen),
            resume_step=resume_step,
            why=_why(current, chosen, workers),
        )
    return _last_generation(seen, stands, resume_step, _why(current, chosen, workers), now)


def _still_leaving(current: Rendezvous, workers: Iterable[Worker]) -> set[str]:
    """Those that were leaving by their own word, and have not been heard since the operator started, not for long."""
    unheard = {w.pod.uid for w in workers if w.report is None and w.connected is None and not w.pod.terminal}
    return unheard & set(current.leaving)


def _is_due(
    current: Rendezvous,
    workers: Sequence[Worker],
    staying: int,
    joining: Sequence[Worker],
    bounds: Bounds,
    now: datetime,
) -> bool:
    """Whether there is a reason for another generation; `staying` counts those who go with the next one only, too."""
    if not current.members:
        return len(joining) >= bounds.minimum
    if staying < len(current.members):
        return True
    publishing = any(worker.report and worker.report.state == "Publishing" for worker in workers)
    room = staying < bounds.maximum and not publishing
    return bool(joining and room) or _broken_long_enough(current, workers, now)


def complaints(current: Rendezvous, workers: Iterable[Worker]) -> list[Worker]:
    """Members who reported that the collectives of the current generation failed: look again after BROKEN_PATIENCE."""
    return [w for w in workers if w.pod.uid in current.uids and w.report and w.report.broken == current.generation]


def _broken_long_enough(current: Rendezvous, workers: Iterable[Worker], now: datetime) -> bool:
    heard = [worker.heard for worker in complaints(current, workers)]
    return any(moment is not None and now - moment >= BROKEN_PATIENCE for moment in heard)


def _ordered(
    staying: Iterable[StoredMember], joining: Iterable[Worker], workers: Iterable[Worker], bounds: Bounds
) -> list[StoredMember]:
    """Ranks: whoever holds state comes before who does not, then base before spot, then by name.

    The first is the master, and a member of the earlier generation holds state, so a newcomer never becomes it.
    """
    pools = {worker.pod.uid: worker.pool for worker in workers}
    order = {pool: place for place, pool in enumerate(bounds.pools)}

    def place(member: StoredMember) -> tuple[int, str]:
        return order.get(pools.get(member.uid, ""), len(order)), member.pod

    newcomers = [as_member(worker, bounds.processes) for worker in joining]
    with_state = {w.pod.uid for w in workers if w.report is not None and w.report.step is not None}
    returning = sorted((m for m in newcomers if m.uid in with_state), key=place)
    fresh = sorted((m for m in newcomers if m.uid not in with_state), key=place)
    return [*sorted(staying, key=place), *returning, *fresh]


def as_member(worker: Worker, processes: int) -> StoredMember:
    """`worker` as it stands in a rendezvous; `processes` is for a pod that does not tell how many it was started with.

    The spec may ask for another number by now, of workers that are yet to come.
    """
    pod, started = worker.pod, worker.processes or processes
    return StoredMember(pod=pod.name, uid=pod.uid, address=pod.address, processes=started, node=pod.node)


def _last_generation(
    seen: Rendezvous, stands: dict[str, Standing], resume_step: int | None, why: str, now: datetime
) -> Rendezvous:
    """Too few are left: the living save and leave. They need a new generation only where a peer is lost or failed."""
    living = tuple(member for member in seen.members if stands.get(member.uid, "Lost") not in ("Lost", "Failed"))
    if not living:
        return seen
    stopped = stop(seen, "TooFewWorkers", now)
    if living == seen.members:
        return stopped
    return replace(stopped, generation=seen.generation + 1, members=living, resume_step=resume_step, why=why)


def survivors(current: Rendezvous, workers: Iterable[Worker]) -> list[Worker]:
    """Members whose pod or node does not say that they have ended.

    A silent peer may be left behind on the word of a survivor. Where none survives nothing is gained by haste, and the
    exit codes, which come in a moment, say whether this was a crash that counts.
    """
    return [w for w in workers if w.pod.uid in current.uids and standing(w, trouble=False) != "Lost"]


def without_members(current: Rendezvous) -> Rendezvous:
    """The rendezvous that nobody is in any more: only its number stays."""
    return Rendezvous(generation=current.generation)


def stop(current: Rendezvous, reason: str, now: datetime) -> Rendezvous:
    """`current` with everyone told to save and leave; the first reason stays."""
    if current.stop:
        return current
    return replace(current, stop=reason, stop_since=to_timestamp(now))


def _why(current: Rendezvous, chosen: Sequence[StoredMember], workers: Sequence[Worker]) -> str:
    """The sentence that says what the next generation comes from."""
    if not current.members:
        return f"{counted_workers(len(chosen))} ready"
    uids = {member.uid for member in chosen}
    gone = [member for member in current.members if member.uid not in uids]
    new = [member.pod for member in chosen if member.uid not in current.uids]
    by_uid = {worker.pod.uid: worker for worker in workers}
    parts = [f"{member.pod} is leaving: {why_gone(by_uid.get(member.uid))}" for member in gone]
    if new:
        parts.append(f"{', '.join(new)} joined")
    return "; ".join(parts) or "the workers lost touch with each other"


def why_gone(worker: Worker | None) -> str:
    """Why a worker is no longer a member, as far as it can be seen now."""
    if worker is None:
        return "its pod is gone"
    pod, node = worker.pod, worker.node
    if worker.noticed:
        return f"node {pod.node} announced its end ({node.source})"
    if node.state == "Unreachable":
        return f"node {pod.node} does not answer"
    if pod.disruption:
        return f"its pod is being disrupted ({pod.disruption})"
    if pod.exit_code is not None:
        return f"it ended with exit code {pod.exit_code}"
    if pod.deleting:
        return "its pod is being deleted"
    if worker.report is not None and (worker.report.leaving or worker.report.state == "Leaving"):
        return "it was told to end"
    if worker.report is not None and worker.report.state == "Failed":
        return "it failed"
    return "its connection is lost" if worker.connected is False else "it ended"


def counted_workers(workers: int) -> str:
    """`1 worker`, `2 workers`."""
    return "1 worker" if workers == 1 else f"{workers} workers"
