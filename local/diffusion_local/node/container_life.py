"""A running container: hooks, probes, and how its end is described."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

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

    def kill(self, message: str, grace: float | None) -> None:
        """A probe or hook condemned the container; `grace` in seconds, or the pod's own when None."""


async def live(container: Manifest, target: Target, listener: Listener) -> None:
    """Run the postStart hook, then the startup probe, then readiness and liveness for ever."""
    hook = (container.get("lifecycle") or {}).get("postStart")
    if hook:
        answer = await ask(hook, target, float("inf"))
        if not answer.good:
            listener.kill(f"FailedPostStartHook: {answer.message}", None)
            return
    if probe := container.get("startupProbe"):
        await startup(probe, container, target, listener)
    listener.set_started()
    tasks = []
    if probe := container.get("readinessProbe"):
        tasks.append(watch_probe(probe, target, readiness_told(listener)))
    else:
        listener.set_ready(True)
    if probe := container.get("livenessProbe"):
        tasks.append(watch_probe(probe, target, condemning(probe, container, listener, "Liveness")))
    await asyncio.gather(*tasks)


async def startup(probe: Manifest, container: Manifest, target: Target, listener: Listener) -> None:
    """Return when the startup probe has passed."""
    passed = asyncio.Event()
    condemn = condemning(probe, container, listener, "Startup")

    def told(good: bool, message: str) -> None:
        if good:
            passed.set()
        else:
            condemn(good, message)

    asking = asyncio.create_task(watch_probe(probe, target, told))
    try:
        await passed.wait()
    finally:
        asking.cancel()


def readiness_told(listener: Listener) -> Callable[[bool, str], None]:
    """Pass verdicts of a readiness probe on."""

    def told(good: bool, message: str) -> None:
        listener.set_ready(good)
        if not good:
            listener.unhealthy("Readiness", message)

    return told


def condemning(probe: Manifest, container: Manifest, listener: Listener, kind: str) -> Callable[[bool, str], None]:
    """Kill the container when a liveness or startup probe says no."""

    def told(good: bool, message: str) -> None:
        if not good:
            listener.unhealthy(kind, message)
            grace = probe.get("terminationGracePeriodSeconds")
            listener.kill(f"Container {container['name']} failed {kind.lower()} probe, will be restarted", grace)

    return told


def end_of(
    container: Manifest, process: ContainerProcess, exit_code: int, times: tuple[float, float], files: tuple[Path, Path]
) -> Terminated:
    """Describe the end of a run; `times` are its start and end, `files` its termination message and its log."""
    if process.out_of_memory and exit_code == KILLED:
        reason = "OOMKilled"
    else:
        reason = "Completed" if exit_code == 0 else "Error"
    message = files[0].read_bytes()[:LONGEST_MESSAGE].decode(errors="replace") if files[0].exists() else ""
    if not message and exit_code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        message = log_tail(files[1])
    return Terminated(exit_code, reason, message, *times)
