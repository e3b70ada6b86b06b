"""One run of one container inside its pod: supervises the process and keeps the pod's record of it."""

import asyncio
import logging
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_local.node.back_off import failures_in_a_row
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_life import KILLED, end_of, live
from diffusion_local.node.container_log import remove_log
from diffusion_local.node.container_process import ContainerProcess
from diffusion_local.node.container_stop import ContainerStop
from diffusion_local.node.memory_watch import outgrew
from diffusion_local.node.pod_record import ContainerRecord, Running
from diffusion_local.node.probing import Target
from diffusion_local.node.quantity import parse_quantity

if TYPE_CHECKING:
    from diffusion_local.node.pod_worker import PodWorker

KEPT_LOGS = 2
log = logging.getLogger(__name__)


def complain(task: asyncio.Task[None]) -> None:
    """Nobody awaits these tasks, so a fault in one is told here."""
    if not task.cancelled() and task.exception() is not None:
        log.error("a container is supervised no more", exc_info=task.exception())


class ContainerRun:
    """From the start of the process until its end is in the pod's record."""

    def __init__(self, worker: "PodWorker", container: Manifest, process: ContainerProcess, number: int) -> None:
        self.worker = worker
        self.container = container
        self.name: str = container["name"]
        self.process = process
        self.number = number
        self.target = Target(container, worker.place.ip, process.pid, process.spec)
        self.alive = True
        self.stop = ContainerStop(self)
        self.living = asyncio.create_task(self.look_after())
        self.ending = asyncio.create_task(self.supervise())
        for task in (self.living, self.ending):
            task.add_done_callback(complain)

    @property
    def memory_limit(self) -> int | None:
        """Bytes, where the container has a limit."""
        text = ((self.container.get("resources") or {}).get("limits") or {}).get("memory")
        return int(parse_quantity(str(text))) if text else None

    def outgrew_limit(self) -> bool:
        """Whether it ended above its memory limit before that could be seen."""
        limit, process = self.memory_limit, self.process
        return limit is not None and outgrew(limit, process.peak, process.inherited_peak, process.seconds)

    def known(self) -> ContainerRecord:
        """What the pod's record says of this container."""
        return self.worker.record.containers[self.name]

    def tell(self, kind: str, reason: str, message: str) -> None:
        """Say something about the pod in an event; `kind` is Normal or Warning."""
        self.worker.tell(kind, reason, message, self.name)

    async def look_after(self) -> None:
        """Hooks and probes; a container that cannot be looked after is condemned, since nobody would know its state."""
        try:
            await live(self.container, self.target, self, self.stop.asked)
        except Exception as error:
            log.exception("container %s of %s cannot be looked after", self.name, self.worker.name)
            self.kill(f"Container {self.name} cannot be probed ({error!r}), will be restarted", None)

    async def supervise(self) -> None:
        """Wait for the end and record it."""
        exit_code = await self.process.finished()
        self.living.cancel()
        if self.outgrew_limit():
            self.process.out_of_memory, exit_code = True, KILLED
        known, now, place = self.known(), self.worker.services.clock(), self.worker.place
        started_at = known.state.started_at if isinstance(known.state, Running) else now
        files = place.termination_file(self.name), place.log_path(self.name, self.number)
        end = end_of(self.container, self.process, exit_code, (started_at, now), files)
        end = replace(end, container_id=known.container_id)
        failures = failures_in_a_row(known.failures, now - started_at)
        self.worker.put(self.name, replace(known, state=end, failures=failures, started=False, ready=False))
        self.alive = False
        self.worker.wake()
        remove_log(place.log_path(self.name, self.number - KEPT_LOGS))

    def run_out_of_memory(self) -> None:
        """Kill the container for using more memory than its limit."""
        self.process.out_of_memory = True
        self.process.signal(signal.SIGKILL)

    # ---- what probes say (container_life.Listener)

    def set_started(self) -> None:
        """Past its startup probe."""
        self.worker.put(self.name, replace(self.known(), started=True))
        self.worker.wake()

    def set_ready(self, ready: bool) -> None:
        """A verdict about readiness."""
        if self.known().ready != ready:
            self.worker.put(self.name, replace(self.known(), ready=ready))
            self.worker.wake()

    def unhealthy(self, kind: str, message: str) -> None:
        """A probe failed."""
        self.tell("Warning", "Unhealthy", f"{kind} probe failed: {message}")

    def hook_failed(self, message: str) -> None:
        """The postStart hook failed."""
        self.tell("Warning", "FailedPostStartHook", message)

    def kill(self, message: str, grace: float | None) -> None:
        """A probe or hook condemned the container: end it with its grace, once."""
        if not self.stop.asked.is_set():
            seconds = self.worker.grace if grace is None else float(grace)
            self.stop.begin(asyncio.get_running_loop().time() + seconds, message)
