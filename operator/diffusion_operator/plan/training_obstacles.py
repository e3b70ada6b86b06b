"""What keeps workers from starting, each as a reason and a sentence that names the remedy.

The order is that of causes: a pod that the quota refuses has no image to pull.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from diffusion_operator.observe.creation_failures import refused
from diffusion_operator.observe.pods import PULL_PROBLEMS, START_PROBLEMS, PodFacts
from diffusion_operator.observe.raw_values import condition_of, text_at
from diffusion_operator.observe.training_world import TrainingJob, TrainingWorld
from diffusion_operator.plan.conditions import kept
from diffusion_operator.plan.slow_creation import is_slow, seconds_until_slow, slow_sentence

CREATION_SECONDS = 15
"""How often to ask why a Job has fewer pods than it should: nobody tells us of events."""

_REFUSED = frozenset({"QuotaExceeded", "Refused"})

_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*"(: )?(ErrImagePull: )?')
"""What a kubelet puts before the cause between two tries. Without it the sentence stays the same from try to try."""


@dataclass(frozen=True)
class Obstacle:
    """`stalls`: nothing in the cluster will remove it by itself, somebody has to act.

    `vague`: how its sentence begins, where the cause is not told right now: a stored one that begins so knows it.
    `recounted`: how it begins, where somebody else counts things anew in the rest at each try.
    """

    reason: str
    message: str
    stalls: bool = True
    vague: str = ""
    recounted: str = ""


def obstacles(world: TrainingWorld, now: datetime) -> tuple[Obstacle, ...]:
    """All that is in the way now, the deepest cause first; in the stored words where these still say the same."""
    found = (*_claims(world), *_refusals(world), *_uncreated(world), *_pods(world), *_slow(world, now))
    stored = condition_of({"status": world.history.raw}, "Scheduled")
    return tuple(in_stored_words(one, text_at(stored, "reason"), text_at(stored, "message")) for one in found)


def in_stored_words(obstacle: Obstacle, reason: str, message: str) -> Obstacle:
    """The obstacle in the words of a condition with this reason and message, where these still say the same."""
    if obstacle.reason != reason:
        return obstacle
    if obstacle.vague and message.startswith(obstacle.vague):
        return replace(obstacle, message=message)
    if obstacle.recounted:
        return replace(obstacle, message=kept(obstacle.message, message, obstacle.recounted))
    return obstacle


def _claims(world: TrainingWorld) -> Iterator[Obstacle]:
    for name in world.missing_claims:
        yield Obstacle(
            "ClaimNotFound",
            f"the PersistentVolumeClaim {name} does not exist in namespace {world.namespace}: create it",
        )


def _refusals(world: TrainingWorld) -> Iterator[Obstacle]:
    """What was refused in the last pass. An operator that has just started takes the stored word for it."""
    yield from map(_refusal, world.refusals)
    stored = condition_of({"status": world.history.raw}, "Scheduled")
    if not world.has_applied and text_at(stored, "reason") in _REFUSED:
        yield Obstacle(text_at(stored, "reason"), text_at(stored, "message"))


def _refusal(sentence: str) -> Obstacle:
    return Obstacle(*refused(sentence, "Refused"))


def _uncreated(world: TrainingWorld) -> Iterator[Obstacle]:
    """Pods that the API server does not let a Job make, in the words that its controller was told."""
    for job in world.jobs:
        if job.creation_failure and makes_too_few(job):
            yield _refusal(f"Job {job.name} cannot make its pods: {job.creation_failure}")


def makes_too_few(job: TrainingJob) -> bool:
    """Whether a Job runs fewer pods than it should: nobody lets it make them, or it waits after a pod that failed."""
    return job.outcome == "Active" and not job.deleting and job.active < job.size and not job.succeeded


def _pods(world: TrainingWorld) -> Iterator[Obstacle]:
    waiting = [worker.pod for worker in world.workers if not worker.pod.terminal and not worker.pod.deleting]
    for pod in waiting:
        if (found := not_started(world, pod)) is not None:
            yield found
    for pod in waiting:
        if pod.unschedulable:
            start = f"pod {pod.name} has no node: "
            yield Obstacle("Unschedulable", f"{start}{pod.unschedulable}", stalls=False, recounted=start)


def not_started(world: TrainingWorld, pod: PodFacts) -> Obstacle | None:
    """Why the container of a pod cannot be made on its node; None while nothing is said against it."""
    if pod.waiting in PULL_PROBLEMS:
        start = f"pod {pod.name} cannot pull its image: "
        why = _BACK_OFF.sub("", pod.waiting_message)
        remedy = _image_remedy(world, ", or add its spec.workers.template.imagePullSecrets")
        said = f"{start}{why or pod.waiting}; {remedy}"
        return Obstacle("ImagePull", said, vague="" if why else start, recounted=start)
    if pod.start_error:
        remedy = _image_remedy(world, ": it has to be an image of the trainer")
        return Obstacle("ContainerNotStarted", f"the container cannot be started: {pod.start_error}; {remedy}")
    if pod.waiting in START_PROBLEMS:
        return Obstacle("ContainerNotStarted", f"pod {pod.name}: {pod.waiting_message or pod.waiting}")
    return None


def _image_remedy(world: TrainingWorld, how: str) -> str:
    if world.training is not None and world.training.spec.workers.image is None:
        return "set spec.workers.image, or correct the operator's image for trainers"
    return f"correct spec.workers.image{how}"


def _slow(world: TrainingWorld, now: datetime) -> Iterator[Obstacle]:
    """Workers whose container is not made for long. It may still come, so nothing stalls."""
    if world.training is None:
        return
    for worker in world.workers:
        if not worker.pod.deleting and is_slow(worker.pod.creating_since, now):
            sentence = slow_sentence(worker.pod.name, world.training.spec.workers.template)
            yield Obstacle("ContainerCreating", sentence, stalls=False)


def seconds_until_slow_workers(world: TrainingWorld, now: datetime) -> float | None:
    """When to look again at containers in the making; None while there are none that are not slow already."""
    waits = (seconds_until_slow(worker.pod.creating_since, now) for worker in world.workers)
    return min((wait for wait in waits if wait > 0), default=None)
