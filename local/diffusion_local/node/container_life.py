"""A running container: hooks, probes, and how its end is described."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_log import log_tail
from diffusion_local.node.container_process import ContainerProcess
from diffusion_local.node.pod_record import Terminated
from diffusion_local.node.probing import Target, ask, watch_probe

LONGEST_MESSAGE = 4096
KILLED = 137


class Listener(Protocol):
    """Who hears what probes found out."""

    def set_started(self) -> None:
        """The startup probe has passed, or there is none."""

    def set_ready(self, ready: bool) -> None:
        """The readiness probe has a verdict, or there is none."""

    def unhealthy(self, kind: str, message: str) -> None:
        """A probe failed once more; `kind` is Startup, Readiness or Liveness."""

    def hook_failed(self, message: str) -> None:
        """The postStart hook failed."""

    def kill(self, message: str, grace: float | None) -> None:
        """A probe or hook condemned the container; `grace` in seconds, or the pod's own when None."""


async def live(container: Manifest, target: Target, listener: Listener, asked: asyncio.Event) -> None:
    """Run the postStart hook, then the startup probe, then readiness and liveness for ever.

    Once the container is `asked` to end, readiness alone goes on: what is ending anyway is neither started nor killed.
    """
    if not await unless(asked, come_up(container, target, listener)):
        return
    listener.set_started()
    tasks: list[Coroutine[Any, Any, Any]] = []
    if probe := container.get("readinessProbe"):
        tasks.append(watch_probe(probe, target, listener.set_ready, partial(listener.unhealthy, "Readiness")))
    else:
        listener.set_ready(True)
    if probe := container.get("livenessProbe"):
        tasks.append(unless(asked, condemn_by(probe, container, target, listener, "Liveness")))
    await asyncio.gather(*tasks)


async def unless(asked: asyncio.Event, work: Coroutine[Any, Any, bool]) -> bool:
    """Do `work` until the event comes; whether it was done, and well."""
    working, asking = asyncio.create_task(work), asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({working, asking}, return_when=asyncio.FIRST_COMPLETED)
        return working.done() and working.result()
    finally:
        working.cancel()
        asking.cancel()


async def come_up(container: Manifest, target: Target, listener: Listener) -> bool:
    """The postStart hook and the startup probe; False when the hook failed."""
    if hook := (container.get("lifecycle") or {}).get("postStart"):
        answer = await ask(hook, target, None)
        if not answer.good:
            listener.hook_failed(answer.message)
            listener.kill(f"Container {container['name']} failed its postStart hook: {answer.message}", None)
            return False
    if probe := container.get("startupProbe"):
        return await condemn_by(probe, container, target, listener, "Startup")
    return True


async def condemn_by(probe: Manifest, container: Manifest, target: Target, listener: Listener, kind: str) -> bool:
    """Kill the container when a liveness or startup probe says no; returns when a startup probe has passed."""
    passed = asyncio.Event()

    def told(good: bool) -> None:
        if good:
            passed.set()
        else:
            grace = probe.get("terminationGracePeriodSeconds")
            listener.kill(f"Container {container['name']} failed {kind.lower()} probe, will be restarted", grace)

    asking = asyncio.create_task(watch_probe(probe, target, told, partial(listener.unhealthy, kind)))
    passing = asyncio.create_task(passed.wait())
    try:
        await asyncio.wait({asking} if kind == "Liveness" else {asking, passing}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
        return True
    finally:
        asking.cancel()
        passing.cancel()


def end_of(
    container: Manifest, process: ContainerProcess, exit_code: int, times: tuple[float, float], files: tuple[Path, Path]
) -> Terminated:
    """Describe the end of a run; `times` are its start and end, `files` its termination message and its log."""
    if process.out_of_memory and exit_code == KILLED:
        reason = "OOMKilled"
    else:
        reason = "Completed" if exit_code == 0 else "Error"
    message = last_bytes(files[0], LONGEST_MESSAGE).decode(errors="replace")
    if not message and exit_code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        message = log_tail(files[1])
    return Terminated(exit_code, reason, message, *times)


def last_bytes(path: Path, size: int) -> bytes:
    """The end of a file, or all of a short one; nothing when it is missing."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - size, 0))
            return file.read(size)
    except OSError:
        return b""
