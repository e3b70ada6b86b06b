"""Pods of any shape, and a node without processes: drives the pure decisions of the node agent through time."""

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from diffusion_local.node.back_off import failures_in_a_row
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.pod_decisions import Decision, decide
from diffusion_local.node.pod_record import (
    ContainerRecord,
    PodRecord,
    Running,
    Terminated,
    init_containers,
    is_sidecar,
    know,
)
from diffusion_local.node.pod_status import pod_status

POLICIES = ("Always", "OnFailure", "Never")
START = 1_800_000_000.0


def plain_pod(policy: str = "Never", inits: tuple[str, ...] = (), mains: tuple[str, ...] = ("main",)) -> Manifest:
    """A pod by the names of its containers; an init container whose name begins with "side" is a sidecar."""

    def container(name: str) -> Manifest:
        always = {"restartPolicy": "Always"} if name.startswith("side") else {}
        return {"name": name, "image": "image", **always}

    spec: Manifest = {"restartPolicy": policy, "containers": [container(name) for name in mains]}
    if inits:
        spec["initContainers"] = [container(name) for name in inits]
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1}, "spec": spec, "status": {}}


pods = st.builds(
    plain_pod,
    st.sampled_from(POLICIES),
    st.lists(st.sampled_from(["init-1", "init-2", "side-1", "side-2"]), unique=True, max_size=3).map(tuple),
    st.lists(st.sampled_from(["main-1", "main-2", "main-3"]), unique=True, min_size=1, max_size=3).map(tuple),
)


@dataclass
class Simulation:
    """A node with one pod: what the agent does with decisions, without processes."""

    pod: Manifest
    now: float = START
    record: PodRecord = field(default_factory=lambda: PodRecord(ip="10.0.0.5", accepted_at=START, sandbox_ready=True))
    status: Manifest = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    decision: Decision = field(default_factory=lambda: Decision(""))

    def turn(self) -> Decision:
        """Decide, and do it."""
        self.decision = decide(self.pod, self.record, self.now)
        if self.decision.failure is not None:
            self.record = replace(self.record, failure=self.decision.failure, stopping=True)
        for name, waiting in self.decision.waiting.items():
            known = self.record.containers[name]
            self.put(name, replace(known, state=waiting, last=known.termination))
        for name in self.decision.start:
            self.start(name)
        self.status = pod_status(self.pod, self.record, "10.0.0.1", self.status, self.now)
        return self.decision

    def put(self, name: str, record: ContainerRecord) -> None:
        """Replace what is known of a container."""
        self.record = know(self.pod, self.record, name, record)

    def start(self, name: str) -> None:
        """Run it, started and ready at once."""
        self.starts.append(name)
        known = self.record.containers.get(name)
        ended = known.termination if known is not None else None
        restarts = 0 if known is None else known.restarts + (ended is not None)
        failures = known.failures if known is not None else 0
        running = Running(self.now)
        self.put(
            name,
            ContainerRecord(
                running, ended, restarts, failures, started=True, ready=True, container_id=f"{name}-{restarts}"
            ),
        )

    def running(self) -> list[str]:
        """The names of the containers that run."""
        return [name for name, known in self.record.containers.items() if isinstance(known.state, Running)]

    def end(self, name: str, exit_code: int, reason: str = "") -> None:
        """A container ends."""
        known = self.record.containers[name]
        assert isinstance(known.state, Running)
        reason = reason or ("Completed" if exit_code == 0 else "Error")
        ended = Terminated(exit_code, reason, "", known.state.started_at, self.now, known.container_id)
        failures = failures_in_a_row(known.failures, self.now - known.state.started_at)
        self.put(name, replace(known, state=ended, failures=failures, started=False, ready=False))

    def sidecars(self) -> set[str]:
        """The names of the sidecars."""
        return {container["name"] for container in init_containers(self.pod) if is_sidecar(container)}

    def container_status(self, name: str) -> dict[str, Any]:
        """The newest status of a container."""
        entries = [*self.status.get("initContainerStatuses", []), *self.status["containerStatuses"]]
        found: dict[str, Any] = next(entry for entry in entries if entry["name"] == name)
        return found

    def condition(self, kind: str) -> dict[str, Any]:
        """The newest condition of a kind."""
        found: dict[str, Any] = next(entry for entry in self.status["conditions"] if entry["type"] == kind)
        return found
