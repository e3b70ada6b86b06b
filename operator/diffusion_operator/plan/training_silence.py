"""Silence and standstill: workers that an operator never hears, and generations that get nowhere.

Both are hints. A member that is silent is left behind where a peer's collectives fail, or where those who are heard
make no step any more: it may be frozen with its connections open, and they wait for it.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from diffusion_operator.observe.training_world import TrainingWorld, Worker

UNHEARD_PATIENCE = timedelta(seconds=35)
"""An agent asks again within 30 s of a lost answer, whoever leads now."""
STANDSTILL = timedelta(seconds=60)
"""A generation of which nobody tells a step for so long stands still, unless its steps are slow."""
_SLOW_STEPS = 4
"""It is given the time of so many steps, where that is longer."""


def with_silence(world: TrainingWorld, now: datetime) -> TrainingWorld:
    """`world`, where who trains, or has, and was not heard for so long is as silent as one whose connection broke.

    That alone changes nothing. Where those who are heard stand still, its peers miss it.
    """
    since = world.operator.listening_since
    listened = since is not None and now - since >= UNHEARD_PATIENCE
    workers = tuple(
        replace(worker, connected=False) if listened and worker.connected is None and worker.has_trained else worker
        for worker in world.workers
    )
    world = replace(world, workers=workers)
    if not stands_still(world, now) or not any(worker.connected for worker in _members(world)):
        return world
    workers = tuple(
        replace(worker, missed=worker.connected is False and _is_member(worker, world)) for worker in world.workers
    )
    return replace(world, workers=workers)


def stands_still(world: TrainingWorld, now: datetime) -> bool:
    """Whether nobody of the stored generation has told of a step for too long."""
    moment = _standstill_from(world)
    return moment is not None and now >= moment


def seconds_until_standstill(world: TrainingWorld, now: datetime) -> float | None:
    """When to look again, unless somebody tells of a step before; None where it stands still, or cannot."""
    moment = _standstill_from(world)
    return None if moment is None or moment <= now else (moment - now).total_seconds()


def _standstill_from(world: TrainingWorld) -> datetime | None:
    """From when on the stored generation stands still. It cannot where all its steps are made."""
    members = _members(world)
    reports = [worker.report for worker in members if worker.report is not None]
    target = world.training.spec.training.target_steps if world.training else None
    done = any(one.state == "Publishing" or (target and (one.step or 0) >= target) for one in reports)
    told = [worker.advanced or world.operator.listening_since for worker in members]
    times = [moment for moment in told if moment is not None]
    return None if done or not times else max(times) + _patience(world, members)


def _patience(world: TrainingWorld, members: list[Worker]) -> timedelta:
    batch = world.training.spec.training.global_batch_size if world.training else 0
    speeds = [worker.report.samples_per_second or 0 for worker in members if worker.report is not None]
    slowest = min((speed for speed in speeds if speed > 0), default=None)
    seconds = _SLOW_STEPS * batch / slowest if slowest else 0
    return max(STANDSTILL, timedelta(seconds=min(seconds, 86_400)))


def _members(world: TrainingWorld) -> list[Worker]:
    return [worker for worker in world.workers if _is_member(worker, world) and not worker.pod.terminal]


def _is_member(worker: Worker, world: TrainingWorld) -> bool:
    return worker.pod.uid in world.history.rendezvous.uids
