"""`status.preemptions`: the newest workers that were taken away, and what each cost.

An entry is opened when a member leaves a generation against our will, or its end is announced. The cause may be known
only later: an entry that says ConnectionLost is corrected when the pod tells how it ended, and taken back when that was
a crash, which `restarts.counted` tells instead, or the end of the whole run. What it cost is filled in by the first
survivor that reports a regroup; where the attempt ends without one, it is the steps back to the newest checkpoint.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from diffusion_contract.agent_messages import Recovery
from diffusion_operator.observe.training_history import Preemption, Rendezvous, StoredMember
from diffusion_operator.observe.training_world import TrainingWorld, Worker
from diffusion_operator.plan.membership import is_leaving
from diffusion_operator.plan.timestamps import from_timestamp, to_timestamp
from diffusion_operator.plan.training_restarts import Restarts, ending, is_superfluous

LIMIT = 10
"""Entries that a status keeps."""
LOST = "ConnectionLost"


def preemptions(
    world: TrainingWorld, rendezvous: Rendezvous, restarts: Restarts, steps_back: int | None, now: datetime
) -> list[Preemption]:
    """The entries to store, oldest first.

    `steps_back`: where the attempt has just ended, how far behind its last step the next one begins; else None.
    """
    entries = {entry.uid: entry for entry in world.history.preemptions}
    for entry in _opened(world, rendezvous, restarts, now):
        if entry.uid not in entries and _makes_room(entries, entry):
            entries[entry.uid] = entry
    workers = {worker.pod.uid: worker for worker in world.workers}
    for uid, entry in entries.items():
        if entry.source == LOST and (uid in workers or uid in restarts.vanished):
            entry = replace(entry, source=_source(workers.get(uid)))
        if entry.notice_seconds is None:
            entry = replace(entry, notice_seconds=_notice(workers.get(uid), entry.time))
        entries[uid] = entry
    failed = {worker.pod.uid for worker in world.workers if _fails(worker, world)}
    kept = [entry for uid, entry in entries.items() if uid not in failed]
    return [_costed(entry, world, steps_back) for entry in kept]


def _makes_room(entries: dict[str, Preemption], new: Preemption) -> bool:
    """Drop the oldest entry for `new` where all are taken; not for one that is as old, or they would take turns."""
    if len(entries) < LIMIT:
        return True
    oldest = next(iter(entries.values()))
    if oldest.generation >= new.generation:
        return False
    del entries[oldest.uid]
    return True


def _opened(world: TrainingWorld, rendezvous: Rendezvous, restarts: Restarts, now: datetime) -> Iterable[Preemption]:
    """Members of the stored generation that are being taken away, each with the source that is known now."""
    if world.history.rendezvous.stop:
        return
    taken = {worker.pod.uid for worker in restarts.disrupted} | restarts.vanished
    workers = {worker.pod.uid: worker for worker in world.workers}
    for member in world.history.rendezvous.members:
        worker = workers.get(member.uid)
        regrouped = rendezvous.generation != world.history.rendezvous.generation
        dead = worker is not None and worker.node.state == "Unreachable"
        dropped = member.uid not in rendezvous.uids and (regrouped or dead)
        announced = worker is not None and not worker.pod.terminal and is_leaving(worker)
        by_itself = worker is not None and (is_superfluous(worker, world) or _fails(worker, world))
        if (member.uid in taken or dropped or announced) and not by_itself:
            # One that stays in this generation, because too few would be left, is missing from the next.
            without = rendezvous.generation + (not (regrouped and dropped))
            yield _entry(member, worker, without, now)


def _fails(worker: Worker, world: TrainingWorld) -> bool:
    """Whether a worker ends for a reason of the run's, and nobody takes it away: it says so, or its exit code does."""
    if worker.pod.terminal:
        return ending(worker, world) in ("Crash", "Refused")
    taken_away = worker.noticed or worker.pod.deleting or bool(worker.pod.disruption)
    return not taken_away and worker.report is not None and worker.report.state == "Failed"


def _entry(member: StoredMember, worker: Worker | None, generation: int, now: datetime) -> Preemption:
    time = to_timestamp(_announced(worker) or now)
    return Preemption(
        time=time,
        pod=member.pod,
        uid=member.uid,
        node=(worker.pod.node if worker is not None else "") or member.node,
        source=_source(worker),
        generation=generation,
        notice_seconds=_notice(worker, time),
    )


def _announced(worker: Worker | None) -> datetime | None:
    """When the end of a worker was announced; None where nobody says."""
    if worker is None:
        return None
    if worker.noticed:
        return from_timestamp(worker.node.since)
    killed = from_timestamp(worker.pod.deleting_since)
    return None if killed is None else killed - timedelta(seconds=worker.pod.grace_seconds or 0)


def _notice(worker: Worker | None, time: str) -> int | None:
    """Seconds from the announcement to the end: that of the node where it is told, else of the pod.

    A pod's `deletionTimestamp` is the time at which it is killed, not that of the request.
    """
    if worker is None:
        return None
    ends = from_timestamp(worker.node.deadline) if worker.noticed else None
    ends = ends or from_timestamp(worker.pod.deleting_since)
    since = from_timestamp(time)
    return None if ends is None or since is None else max(0, round((ends - since).total_seconds()))


def _source(worker: Worker | None) -> str:
    """What took it away, in the words of whoever said so."""
    if worker is None:
        return "PodGone"
    if worker.noticed or worker.node.state == "Unreachable":
        return worker.node.source
    if worker.pod.disruption:
        return worker.pod.disruption
    if worker.pod.deleting:
        return "PodDeleted"
    if worker.pod.terminal:
        return "PodEnded"
    return "AgentNotice" if worker.report is not None and is_leaving(worker) else LOST


def _costed(entry: Preemption, world: TrainingWorld, steps_back: int | None) -> Preemption:
    if entry.lost_steps is not None:
        return entry
    told = [worker.report.recovery for worker in world.workers if worker.report and worker.report.recovery]
    after = [one for one in told if one.generation >= entry.generation and math.isfinite(one.seconds)]
    if not after:
        return entry if steps_back is None else replace(entry, lost_steps=steps_back)
    first: Recovery = min(after, key=lambda recovery: (recovery.generation, -recovery.seconds))
    return replace(entry, lost_steps=first.lost_steps, recovery_seconds=round(first.seconds, 3))
