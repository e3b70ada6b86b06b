"""One pod from its arrival on the node to its removal from the API: one coroutine, woken by whatever happens.

Each turn asks `decide` what to do, does it, and has the status written. Everything observed is kept in `record`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace

from diffusion_local.node.back_off import delay_before_pull, failures_in_a_row
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_process import CommandNotStarted
from diffusion_local.node.container_run import ContainerRun
from diffusion_local.node.container_start import NotStartable, start_container
from diffusion_local.node.container_status import NOT_STARTED
from diffusion_local.node.pod_decisions import DEADLINE_EXCEEDED, deadline_of, decide, full_name
from diffusion_local.node.pod_record import (
    ContainerRecord,
    PodRecord,
    Running,
    Terminated,
    Verdict,
    Waiting,
    init_containers,
    is_sidecar,
    know,
    main_containers,
)
from diffusion_local.node.pod_recovery import finished_record, recovered_record
from diffusion_local.node.pod_sandbox import PodSandbox
from diffusion_local.node.pod_status import TERMINAL_PHASES, pod_status
from diffusion_local.node.pod_stop import PodStop
from diffusion_local.node.services import NodeServices
from diffusion_local.node.status_writer import StatusWriter, delete_for_good

DEFAULT_GRACE = 30.0
RETRY_SECONDS = 2.0
REFUSED_SECONDS = 10.0
"""Before the removal of a pod is asked for again that was refused, as by an admission webhook."""
LONGEST_SLEEP = 3600.0
log = logging.getLogger(__name__)


class PodWorker:
    """Everything about one pod. `run` is its life; the other public methods tell it what happened outside."""

    def __init__(self, services: NodeServices, pod: Manifest) -> None:
        self.services = services
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        self.record = PodRecord(accepted_at=services.clock())
        self.writer = StatusWriter(services.api, pod)
        self.sandbox = PodSandbox(services, pod, self.wake)
        self.place = self.sandbox.place
        self.runs: dict[str, ContainerRun] = {}
        self.woken = asyncio.Event()
        self.removed = False
        """The pod is no longer in the API."""
        self.stop = PodStop(self)

    # ---- what others tell

    def update(self, pod: Manifest) -> None:
        """The pod changed in the API."""
        self.pod = pod
        self.sandbox.update(pod)
        status = pod.get("status") or {}
        if status.get("phase") == "Failed" and self.lives:  # ended by others, for good: phases do not go back
            self.end(Verdict(status.get("reason", ""), status.get("message", "")), None, self.grace)
        self.writer.see(status)
        self.wake()

    def forget(self) -> None:
        """The pod vanished from the API: whatever still runs is killed."""
        self.removed = True
        self.wake()

    def end(self, failure: Verdict, disruption: Verdict | None, grace: float) -> None:
        """The node ends the pod."""
        self.record = replace(self.record, failure=self.record.failure or failure, disruption=disruption)
        self.stop.begin(grace)
        self.wake()

    def wake(self) -> None:
        """Have the next turn taken."""
        self.woken.set()

    @property
    def grace(self) -> float:
        """Seconds that the pod's containers get to end."""
        given = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if given is None:
            given = self.pod["spec"].get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if given is None else float(given)

    @property
    def lives(self) -> bool:
        """Whether the pod has not reached its end yet."""
        return self.status()["phase"] not in TERMINAL_PHASES and not self.removed

    # ---- its life

    async def run(self) -> None:
        """Live until the pod is gone from the API and everything of it from this machine."""
        try:
            before = self.pod.get("status") or {}
            if before.get("phase") in TERMINAL_PHASES:
                self.record = finished_record(self.pod, self.services.clock())
            else:
                await self.go_on(begun_before=bool(before.get("startTime")))
            await self.leave()
        except Exception:
            log.exception("pod %s", self.name)
            raise
        finally:
            self.stop.kill()
            self.sandbox.remove()

    async def go_on(self, begun_before: bool) -> None:
        """Live; with what is left of it where an earlier agent ran the pod."""
        if begun_before:
            self.record = recovered_record(self.pod, self.services.clock())
        if self.record.stopping:
            self.publish()
        else:
            await self.live()
            self.sandbox.close()

    async def live(self) -> None:
        """From the volumes to the end of the last container."""
        self.publish()
        if await self.settle():
            self.record = replace(self.record, sandbox_ready=True, ip=self.place.ip)
        while True:
            if self.removed or self.pod["metadata"].get("deletionTimestamp"):
                self.stop.begin(0.0 if self.removed else self.grace)
            wake_at = await self.take_turn()
            if not any(run.alive for run in self.runs.values()) and self.over():
                return
            await self.sleep_until(wake_at)

    async def settle(self) -> bool:
        """Have address, network and volumes ready; False when the pod is to end before they are."""
        preparing = asyncio.create_task(self.sandbox.prepare())
        preparing.add_done_callback(lambda _: self.wake())
        try:
            while not preparing.done():
                deadline = deadline_of(self.pod, self.record)
                if self.services.clock() >= deadline:
                    self.end(DEADLINE_EXCEEDED, None, self.grace)
                if self.unwanted():
                    return False
                await self.sleep_until(deadline)
            preparing.result()
            return True
        finally:
            preparing.cancel()
            await asyncio.wait({preparing})

    def unwanted(self) -> bool:
        """Whether the pod is to end before it has begun."""
        deleted = self.removed or bool(self.pod["metadata"].get("deletionTimestamp"))
        return deleted or self.record.failure is not None

    def over(self) -> bool:
        """Whether nothing will be started any more."""
        return self.record.stopping or self.record.failure is not None or self.status()["phase"] in TERMINAL_PHASES

    async def take_turn(self) -> float:
        """Decide and act once; the moment at which to look again."""
        decision = decide(self.pod, self.record, self.services.clock())
        if decision.failure is not None:
            self.end(decision.failure, None, self.grace)
        for name, waiting in decision.waiting.items():
            self.hold(name, waiting)
        for name in decision.start:
            await self.start(name)
        if decision.over and not self.record.stopping and not self.main_alive():
            self.stop.begin(self.grace, sidecars_only=True)
        self.publish()
        return decision.wake_at

    def main_alive(self) -> bool:
        """Whether a container proper still runs."""
        return any(run.alive for name, run in self.runs.items() if not is_sidecar(run.container))

    async def sleep_until(self, moment: float) -> None:
        """Wait to be woken, or for the moment. Whoever calls looks at everything again afterwards."""
        seconds = min(max(moment - self.services.clock(), 0.01), LONGEST_SLEEP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        self.woken.clear()

    # ---- containers

    def put(self, name: str, record: ContainerRecord) -> None:
        """Replace what is known of a container."""
        self.record = know(self.pod, self.record, name, record)

    def hold(self, name: str, waiting: Waiting) -> None:
        """Let a container wait, keeping how it ended."""
        known = self.record.containers[name]
        self.put(name, replace(known, state=waiting, last=known.termination or known.last, started=False, ready=False))
        if waiting.reason == "ImagePullBackOff":
            self.tell("Normal", "BackOff", waiting.message, name)
        else:
            self.tell(
                "Warning", "BackOff", f"Back-off restarting failed container {name} in pod {full_name(self.pod)}", name
            )

    async def start(self, name: str) -> None:
        """Start a container, for the first time or again."""
        containers: Iterable[Manifest] = [*init_containers(self.pod), *main_containers(self.pod)]
        container = next(entry for entry in containers if entry["name"] == name)
        known = self.record.containers.get(name)
        ended = known.termination if known is not None else None
        restarts = 0 if known is None else known.restarts + (1 if ended is not None else 0)
        failures = 0 if known is None else known.failures
        container_id = f"{self.uid}-{name}-{restarts}"
        begun = self.services.clock()
        try:
            process = await start_container(self.services, self.pod, container, self.place, restarts)
        except NotStartable as problem:
            self.not_startable(name, known, problem)
            return
        except CommandNotStarted as problem:
            message = f"failed to create task for container: {problem}"
            self.tell("Warning", "Failed", f"Error: {message}", name)
            failures = failures_in_a_row(failures, 0.0)
            state = Terminated(NOT_STARTED, "StartError", message, 0.0, self.services.clock(), container_id)
            self.put(name, ContainerRecord(state, ended, restarts, failures, container_id=container_id))
            self.wake()
            return
        last = ended or (known.last if known is not None else None)
        self.put(name, ContainerRecord(Running(begun), last, restarts, failures, container_id=container_id))
        for reason, message in (
            ("Pulled", f'Container image "{container["image"]}" already present on machine'),
            ("Created", "Container created"),
            ("Started", "Container started"),
        ):
            self.tell("Normal", reason, message, name)
        self.runs[name] = ContainerRun(self, container, process, restarts)
        if self.record.stopping:
            self.stop.include(self.runs[name])

    def not_startable(self, name: str, known: ContainerRecord | None, problem: NotStartable) -> None:
        """Let a container wait, and say when it is tried again."""
        now = self.services.clock()
        base = known if known is not None else ContainerRecord(Waiting(problem.reason))
        pulls = base.pulls + 1 if problem.reason == "ErrImagePull" else 0
        again = now + (delay_before_pull(pulls) if pulls else RETRY_SECONDS)
        state = Waiting(problem.reason, problem.message)
        last = base.termination or base.last
        self.put(name, replace(base, state=state, last=last, pulls=pulls, retry_at=again, failed_at=now))
        self.tell("Warning", "Failed", f"Error: {problem}", name)

    def tell(self, kind: str, reason: str, message: str, container: str) -> None:
        """Have an event about one of the pod's containers written."""
        self.services.events.tell(self.pod, kind, reason, message, container)

    # ---- status and the end

    def status(self) -> Manifest:
        """The status as it should be now."""
        address, now = self.services.configuration.address, self.services.clock()
        return pod_status(self.pod, self.record, address, self.writer.wanted, now)

    def publish(self) -> None:
        """Have the status written if it differs."""
        self.writer.put(self.status())

    async def leave(self) -> None:
        """Wait until the pod is deleted, see its last status stored, and remove it from the API; refused, try again."""
        while not (self.removed or self.pod["metadata"].get("deletionTimestamp")):
            self.woken.clear()
            await self.woken.wait()
        if not self.removed:
            await self.writer.flush()
        gone = False
        while not self.removed:
            gone = gone or await delete_for_good(self.services.api, self.pod)
            await self.sleep_until(self.services.clock() + (LONGEST_SLEEP if gone else REFUSED_SECONDS))
