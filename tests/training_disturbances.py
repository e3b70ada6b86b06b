"""What can happen to a simulated run: crashes, notices, lost nodes, evictions, edits. Each names its victim."""

from datetime import timedelta
from typing import Any

from diffusion_contract.names import ATTEMPT_LABEL
from diffusion_operator.plan.timestamps import to_timestamp
from training_simulator import Simulator
from world_builders import spec_with

NOTICE = timedelta(seconds=15)


def _victim(world: Simulator, number: int) -> dict[str, Any] | None:
    living = world.living()
    return living[number % len(living)] if living else None


def crash(world: Simulator, number: int, code: int = 1) -> None:
    """A worker's container ends by itself. That does not count where its end was decided before."""
    if pod := _victim(world, number):
        current = pod["metadata"]["labels"][ATTEMPT_LABEL] == str(world.status["attempt"])
        excused = "ends" in pod or "ends" in world.nodes[pod["spec"]["nodeName"]] or not current
        world.crashes += not excused
        world.end_pod(pod, code)


def announce(world: Simulator, number: int) -> None:
    """A node is told to go: the taint is on it, and what is on it is killed NOTICE later."""
    if pod := _victim(world, number):
        node = world.nodes[pod["spec"]["nodeName"]]
        node["spec"]["taints"] = [{"key": "karpenter.sh/disrupted", "timeAdded": to_timestamp(world.now)}]
        node["ends"] = world.now + NOTICE


def vanish(world: Simulator, number: int) -> None:
    """A node is gone from one moment to the next, and its pods with it."""
    if victim := _victim(world, number):
        node = victim["spec"]["nodeName"]
        for pod in [pod for pod in world.pods() if pod["spec"]["nodeName"] == node]:
            world.end_pod(pod, None)
            del world.objects[("Pod", pod["metadata"]["name"])]
        del world.nodes[node]


def evict(world: Simulator, number: int) -> None:
    """Somebody deletes a pod: SIGTERM now, and SIGKILL after NOTICE."""
    if pod := _victim(world, number):
        pod["metadata"] |= {"deletionTimestamp": to_timestamp(world.now), "deletionGracePeriodSeconds": 15}
        pod["ends"] = world.now + NOTICE
        world.trainers[pod["metadata"]["uid"]].leaving = True


def orphan(world: Simulator, number: int) -> None:
    """Somebody deletes the Jobs and leaves their pods (`--cascade=orphan`).

    Only where all of them are members: nobody looks for pods that are neither owned nor named in the status.
    """
    members = {one["uid"] for one in world.status.get("rendezvous", {}).get("members", ())}
    if any(pod["metadata"]["uid"] not in members for pod in world.living()):
        return
    for kind, name in [key for key in world.objects if key[0] == "Job"]:
        del world.objects[(kind, name)]


def refuse(world: Simulator, number: int) -> None:
    """A kubelet gives a pod back: it fails without a container status (OutOfcpu, UnexpectedAdmissionError)."""
    if pod := _victim(world, number):
        world.end_pod(pod, None)


def raise_target(world: Simulator, number: int) -> None:
    """Somebody wants more steps, of which workers that run already learn or not."""
    edit(world, training__targetSteps=world.spec["training"]["targetSteps"] + 1 + number)
    for trainer in list(world.trainers.values())[: number % 3]:
        trainer.target = world.spec["training"]["targetSteps"]


def turn_clock(world: Simulator, number: int) -> None:
    """Somebody puts the clock of the operator's machine forward or back, by up to an hour."""
    world.skew += timedelta(minutes=20 * (number - 3))


def edit(world: Simulator, **changes: Any) -> None:
    """Somebody edits the spec."""
    world.spec = spec_with(world.spec, **changes)
    world.generation += 1
