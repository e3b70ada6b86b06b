"""What keeps workers from starting, each as a reason and a sentence that names the remedy.

The order is that of causes: a pod that the quota refuses has no image to pull.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from diffusion_operator.observe.pods import PULL_PROBLEMS, START_PROBLEMS
from diffusion_operator.observe.raw_values import condition_of, text_at
from diffusion_operator.observe.training_world import TrainingJob, TrainingWorld
from diffusion_operator.plan.conditions import from_timestamp, kept

CREATION_SECONDS = 15
"""How long a Job may take to make its pods before that is said."""

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?(ErrImagePull: )?')
"""What a kubelet puts before the cause between two tries. Without it the sentence stays the same from try to try."""


@dataclass(frozen=True)
class Obstacle:
    """`stalls`: nothing in the cluster will remove it by itself, somebody has to act.

    `vague`: how its sentence begins, where the cause is not told right now: a stored one that begins so knows it.
    """

    reason: str
    message: str
    stalls: bool = True
    vague: str = ""


def obstacles(world: TrainingWorld, now: datetime) -> tuple[Obstacle, ...]:
    """All that is in the way now, the deepest cause first; in the stored words where these still say the same."""
    found = (*_claims(world), *_refusals(world), *_uncreated(world, now), *_pods(world))
    stored = condition_of({"status": world.history.raw}, "Scheduled")
    return tuple(_in_stored_words(one, text_at(stored, "reason"), text_at(stored, "message")) for one in found)


def _in_stored_words(obstacle: Obstacle, reason: str, message: str) -> Obstacle:
    if obstacle.reason != reason:
        return obstacle
    if obstacle.vague and message.startswith(obstacle.vague):
        return replace(obstacle, message=message)
    return replace(obstacle, message=kept(obstacle.message, message))


def _claims(world: TrainingWorld) -> Iterator[Obstacle]:
    for name in world.missing_claims:
        yield Obstacle(
            "ClaimNotFound",
            f"the PersistentVolumeClaim {name} does not exist in namespace {world.namespace}: create it",
        )


def _refusals(world: TrainingWorld) -> Iterator[Obstacle]:
    for sentence in world.refusals:
        quota = "exceeded quota" in sentence
        remedy = "; raise the ResourceQuota or ask for less" if quota else ""
        yield Obstacle("QuotaExceeded" if quota else "Refused", f"{sentence}{remedy}")


def _uncreated(world: TrainingWorld, now: datetime) -> Iterator[Obstacle]:
    """Pods that the API server does not let a Job make. The Job controller says why in an event of the Job."""
    for job in world.jobs:
        if makes_too_few(job, world) and seconds_since(job.created, now) >= CREATION_SECONDS:
            yield Obstacle(
                "PodsNotCreated",
                f"Job {job.name} could make {job.active} of {job.size} pods: a ResourceQuota or an admission policy "
                f"refuses the others; `kubectl describe job {job.name}` shows which",
            )


def makes_too_few(job: TrainingJob, world: TrainingWorld) -> bool:
    """Whether a Job that has not lost any pod yet runs fewer than it should.

    One that has lost a pod may be in the back-off of the Job controller; pods that were ignored (exit code 75, a
    disruption) are not in its count of failures.
    """
    if job.outcome != "Active" or job.deleting or job.active >= job.size or job.failed or job.succeeded:
        return False
    ended = any(worker.job == job.name and worker.pod.terminal for worker in world.workers)
    return not ended and not any(entry.pod.startswith(f"{job.name}-") for entry in world.history.preemptions)


def seconds_since(timestamp: str, now: datetime) -> float:
    """Seconds from an RFC 3339 text to `now`; 0 where it cannot be read."""
    moment = from_timestamp(timestamp)
    return 0 if moment is None else (now - moment).total_seconds()


def _pods(world: TrainingWorld) -> Iterator[Obstacle]:
    waiting = [worker.pod for worker in world.workers if not worker.pod.terminal and not worker.pod.deleting]
    for pod in waiting:
        if pod.waiting in PULL_PROBLEMS:
            start = f"pod {pod.name} cannot pull its image: "
            why = _BACK_OFF.sub("", pod.waiting_message)
            yield Obstacle("ImagePull", f"{start}{why or pod.waiting}", vague="" if why else start)
        elif pod.waiting in START_PROBLEMS:
            yield Obstacle("ContainerNotStarted", f"pod {pod.name}: {pod.waiting_message or pod.waiting}")
    for pod in waiting:
        if pod.unschedulable:
            yield Obstacle("Unschedulable", f"pod {pod.name} has no node: {pod.unschedulable}", stalls=False)
