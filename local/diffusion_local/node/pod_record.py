"""What the agent has observed of one pod: the input of every decision and of the status. Plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from diffusion_local.node.configuration import Manifest


@dataclass(frozen=True)
class Waiting:
    """Not running, and why."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """Running since a moment (seconds since the epoch)."""

    started_at: float


@dataclass(frozen=True)
class Terminated:
    """Ended. `started_at` is 0 when the command could not be started at all."""

    exit_code: int
    reason: str
    message: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    container_id: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class ContainerRecord:
    """One container over all its restarts."""

    state: State
    last: Terminated | None = None
    restarts: int = 0
    failures: int = 0
    """Exits in a row: decides the back-off of restarts."""
    pulls: int = 0
    """Attempts to get the image in a row: decides the back-off of pulls."""
    retry_at: float = 0.0
    """Not to be tried again before this moment, while waiting."""
    failed_at: float = 0.0
    """When the image could not be had."""
    started: bool = False
    """Running and past its startup probe."""
    ready: bool = False
    """Started, and its readiness probe, if any, says yes."""
    container_id: str = ""

    @property
    def termination(self) -> Terminated | None:
        """How the newest run ended, also while the container waits to be started again."""
        if isinstance(self.state, Terminated):
            return self.state
        return self.last if isinstance(self.state, Waiting) else None


@dataclass(frozen=True)
class Verdict:
    """A reason and a message that the pod's status shows."""

    reason: str
    message: str


@dataclass(frozen=True)
class PodRecord:
    """One pod on this node."""

    containers: Mapping[str, ContainerRecord] = field(default_factory=dict)
    """By name, init containers included; a container that was never tried is absent."""
    ip: str = ""
    accepted_at: float = 0.0
    sandbox_ready: bool = False
    """Its volumes are there and its address is taken."""
    initialized: bool = False
    """Its init containers are done: a container proper was tried."""
    failure: Verdict | None = None
    """The pod was ended by the node (deadline, preemption): its phase is Failed whatever the containers say."""
    stopping: bool = False
    """It was asked to end: nothing is started any more."""
    disruption: Verdict | None = None
    """Condition DisruptionTarget, set by this node."""


def is_sidecar(container: Manifest) -> bool:
    """An init container that goes on running beside the others."""
    return container.get("restartPolicy") == "Always"


def init_containers(pod: Manifest) -> list[Manifest]:
    """The pod's init containers, sidecars included, in order."""
    return pod["spec"].get("initContainers") or []


def know(pod: Manifest, record: PodRecord, name: str, known: ContainerRecord) -> PodRecord:
    """The record with what is known of a container now."""
    proper = any(container["name"] == name for container in main_containers(pod))
    return replace(record, containers={**record.containers, name: known}, initialized=record.initialized or proper)


def main_containers(pod: Manifest) -> list[Manifest]:
    """The pod's containers proper."""
    return list(pod["spec"]["containers"])
