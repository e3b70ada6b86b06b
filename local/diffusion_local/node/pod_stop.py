"""Ending a pod's containers: those proper together, then the sidecars in reverse order."""

import asyncio
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from diffusion_local.node.closing_time import ClosingTime
from diffusion_local.node.pod_record import is_sidecar

if TYPE_CHECKING:
    from diffusion_local.node.container_run import ContainerRun
    from diffusion_local.node.pod_worker import PodWorker


class PodStop:
    """At most one ending goes on; a later wish with less grace only shortens it."""

    def __init__(self, worker: "PodWorker") -> None:
        self.worker = worker
        self.task: asyncio.Task[None] | None = None
        self.closing = ClosingTime()

    def begin(self, grace: float, sidecars_only: bool = False) -> None:
        """End what runs within `grace` seconds; 0 kills at once."""
        if not sidecars_only:
            self.worker.record = replace(self.worker.record, stopping=True)
        self.closing.bring(asyncio.get_running_loop().time() + max(grace, 0.0))
        for run in self.worker.runs.values():
            if run.stop.asked.is_set():
                run.stop.begin(self.closing.moment)
        if grace <= 0:
            self.kill()
        if self.task is None:
            self.task = asyncio.create_task(self.end_all())

    def include(self, run: "ContainerRun") -> None:
        """A container that was just being started when the end began."""
        if not self.closing.left:
            run.process.signal(signal.SIGKILL)
        run.stop.begin(self.closing.moment)

    def kill(self) -> None:
        """SIGKILL for all."""
        for run in self.worker.runs.values():
            run.process.signal(signal.SIGKILL)

    async def end_all(self) -> None:
        """Containers proper together; each sidecar when the one before it is gone, or when the grace is over."""
        runs = list(self.worker.runs.values())
        ends = [run.stop.begin(self.closing.moment) for run in runs if not is_sidecar(run.container)]
        for run in reversed([run for run in runs if is_sidecar(run.container)]):
            if ends:
                await self.closing.wait(asyncio.gather(*map(asyncio.shield, ends)))
            ends.append(run.stop.begin(self.closing.moment))
        await asyncio.gather(*ends)
