"""Ending one container: its preStop hook, SIGTERM, SIGKILL when the grace is over."""

import asyncio
import signal
from typing import TYPE_CHECKING

from diffusion_local.node.closing_time import ClosingTime
from diffusion_local.node.probing import Answer, ask

if TYPE_CHECKING:
    from diffusion_local.node.container_run import ContainerRun

LEAST_SECONDS = 2.0
"""Between SIGTERM and SIGKILL, also when the hook has used the grace up: as a kubelet does."""


class ContainerStop:
    """At most one ending of a container goes on; a later wish with less grace only shortens it."""

    def __init__(self, run: "ContainerRun") -> None:
        self.run = run
        self.closing = ClosingTime()
        self.asked = asyncio.Event()
        """It was asked to end."""
        self.task: asyncio.Task[None] | None = None

    def begin(self, moment: float, why: str = "") -> asyncio.Task[None]:
        """Have it end by `moment` of the loop's clock; the task is done when it is gone."""
        self.closing.bring(moment)
        self.asked.set()
        if self.task is None:
            if self.run.alive:
                self.run.tell("Normal", "Killing", why or f"Stopping container {self.run.name}")
            self.task = asyncio.create_task(self.end())
        return self.task

    async def end(self) -> None:
        """The hook, SIGTERM, the rest of the grace, SIGKILL."""
        process = self.run.process
        await self.pre_stop()
        process.signal(signal.SIGTERM)
        await self.closing.wait(process.exited.wait(), at_least=LEAST_SECONDS)
        process.signal(signal.SIGKILL)
        await process.exited.wait()

    async def pre_stop(self) -> None:
        """Run the preStop hook, if any, until the container has ended or its grace is over."""
        hook = (self.run.container.get("lifecycle") or {}).get("preStop")
        if not hook or not self.run.alive or not self.closing.left:
            return
        asking = asyncio.create_task(ask(hook, self.run.target, None))
        await self.closing.wait(asyncio.shield(asking), self.run.process.exited.wait())
        answer = asking.result() if asking.done() else Answer(False, "it did not end within the grace period")
        asking.cancel()
        if not answer.good and not self.run.process.exited.is_set():
            self.run.tell("Warning", "FailedPreStopHook", answer.message)
