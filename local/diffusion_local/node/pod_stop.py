"""Ending a pod's containers: preStop, SIGTERM, the rest of the grace, SIGKILL; sidecars last."""

import asyncio
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_local.node.pod_record import is_sidecar

if TYPE_CHECKING:
    from diffusion_local.node.container_run import ContainerRun
    from diffusion_local.node.pod_worker import PodWorker


class PodStop:
    """At most one ending goes on; a later wish with less grace only shortens it."""

    def __init__(self, worker: "PodWorker") -> None:
        self.worker = worker
        self.task: asyncio.Task[None] | None = None
        self.deadline = float("inf")
        self.timer: asyncio.TimerHandle | None = None

    def begin(self, grace: float, sidecars_only: bool = False) -> None:
        """End what runs within `grace` seconds; 0 kills at once."""
        if not sidecars_only:
            self.worker.record = replace(self.worker.record, stopping=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max(grace, 0.0)
        if deadline < self.deadline:
            self.deadline = deadline
            if self.timer is not None:
                self.timer.cancel()
            self.timer = loop.call_at(deadline, self.kill)
        if self.task is None:
            self.task = asyncio.create_task(self.end_all())

    def include(self, run: "ContainerRun") -> None:
        """A container that was just being started when the end began."""
        self.late = asyncio.create_task(self.end(run))

    def kill(self) -> None:
        """The grace is over."""
        for run in self.worker.runs.values():
            run.process.signal(signal.SIGKILL)

    async def end_all(self) -> None:
        """Containers proper together, then sidecars in reverse order."""
        runs = list(self.worker.runs.values())
        await asyncio.gather(*(self.end(run) for run in runs if not is_sidecar(run.container)))
        for run in reversed([run for run in runs if is_sidecar(run.container)]):
            await self.end(run)

    async def end(self, run: "ContainerRun") -> None:
        """End one container; the timer kills it if it does not go by itself."""
        remaining = self.deadline - asyncio.get_running_loop().time()
        await run.pre_stop(remaining)
        run.process.signal(signal.SIGTERM if self.deadline > asyncio.get_running_loop().time() else signal.SIGKILL)
        await run.process.exited.wait()
