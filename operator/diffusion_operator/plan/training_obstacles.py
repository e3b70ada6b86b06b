"""What keeps workers from starting, each as a reason and a sentence that names the remedy.

The order is that of causes: a pod that the quota refuses has no image to pull.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from diffusion_operator.observe.pods import PULL_PROBLEMS, START_PROBLEMS
from diffusion_operator.observe.training_world import TrainingWorld


@dataclass(frozen=True)
class Obstacle:
    """`stalls`: nothing in the cluster will remove it by itself, somebody has to act."""

    reason: str
    message: str
    stalls: bool = True


def obstacles(world: TrainingWorld) -> tuple[Obstacle, ...]:
    """All that is in the way now, the deepest cause first."""
    return (*_claims(world), *_refusals(world), *_pods(world))


def _claims(world: TrainingWorld) -> Iterator[Obstacle]:
    for name in world.missing_claims:
        yield Obstacle(
            "ClaimNotFound",
            f"the PersistentVolumeClaim {name} does not exist in namespace {world.namespace}: create it",
        )


def _refusals(world: TrainingWorld) -> Iterator[Obstacle]:
    for sentence in (*world.refusals, *world.warnings):
        quota = "exceeded quota" in sentence
        remedy = "; raise the ResourceQuota or ask for less" if quota else ""
        yield Obstacle("QuotaExceeded" if quota else "Refused", f"{sentence}{remedy}")


def _pods(world: TrainingWorld) -> Iterator[Obstacle]:
    waiting = [worker.pod for worker in world.workers if not worker.pod.terminal and not worker.pod.deleting]
    for pod in waiting:
        if pod.waiting in PULL_PROBLEMS:
            yield Obstacle("ImagePull", f"pod {pod.name} cannot pull its image: {pod.waiting_message or pod.waiting}")
        elif pod.waiting in START_PROBLEMS:
            yield Obstacle("ContainerNotStarted", f"pod {pod.name}: {pod.waiting_message or pod.waiting}")
    for pod in waiting:
        if pod.unschedulable:
            yield Obstacle("Unschedulable", f"pod {pod.name} has no node: {pod.unschedulable}", stalls=False)
