"""Asking a container: HTTP, TCP and exec, for probes and for lifecycle hooks."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_process import BARE_ENVIRONMENT, bare_python
from diffusion_local.node.probe_tally import Tally, count, period, port_number, timeout

SHOWN_OUTPUT = 1024


@dataclass(frozen=True)
class Target:
    """A running container, as far as it is asked something."""

    container: Manifest
    pod_ip: str
    pid: int
    spec: Manifest
    """What `launch` was told: folder, identity and variables."""


@dataclass(frozen=True)
class Answer:
    """Whether it went well, and what was heard if not."""

    good: bool
    message: str = ""


async def ask_http(action: Manifest, target: Target, seconds: float) -> Answer:
    """GET; 200 to 399 is good. Certificates are not checked, redirects are not followed."""
    scheme = (action.get("scheme") or "HTTP").lower()
    host, path = action.get("host") or target.pod_ip, action.get("path") or "/"
    url = f"{scheme}://{host}:{port_number(action['port'], target.container)}/{path.removeprefix('/')}"
    headers = {entry["name"]: entry["value"] for entry in action.get("httpHeaders") or []}
    headers = {"User-Agent": "kube-probe/1", "Connection": "close"} | headers
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
            session.get(url, headers=headers, ssl=False, allow_redirects=False) as answer,
        ):
            if 200 <= answer.status < 400:
                return Answer(True)
            return Answer(False, f"HTTP probe failed with statuscode: {answer.status}")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Answer(False, f'Get "{url}": {error or type(error).__name__}')


async def ask_tcp(action: Manifest, target: Target, seconds: float) -> Answer:
    """A connection that opens is good."""
    host, port = action.get("host") or target.pod_ip, port_number(action["port"], target.container)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), seconds)
        writer.close()
        return Answer(True)
    except (TimeoutError, OSError) as error:
        return Answer(False, f"dial tcp {host}:{port}: {error or 'timeout'}")


async def ask_command(action: Manifest, target: Target, seconds: float | None) -> Answer:
    """Run a command inside the container, as the container's own runs; exit code 0 in time is good."""
    order = {**target.spec, "pid": target.pid, "argv": action["command"]}
    process = await asyncio.create_subprocess_exec(
        *bare_python("diffusion_local.node.enter"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=BARE_ENVIRONMENT,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(json.dumps(order).encode()), seconds)
    except TimeoutError:
        return Answer(False, f"command timed out after {seconds:g}s")
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return Answer(process.returncode == 0, output[:SHOWN_OUTPUT].decode(errors="replace"))


async def ask(handler: Manifest, target: Target, seconds: float) -> Answer:
    """One question by whichever handler is given."""
    try:
        if action := handler.get("httpGet"):
            return await ask_http(action, target, seconds)
        if action := handler.get("tcpSocket"):
            return await ask_tcp(action, target, seconds)
        if action := handler.get("exec"):
            return await ask_command(action, target, seconds)
        if action := handler.get("sleep"):
            await asyncio.sleep(min(action["seconds"], seconds))
            return Answer(True)
    except (ValueError, OSError) as error:
        return Answer(False, str(error))
    return Answer(False, "this node does not support this kind of probe")


async def watch_probe(probe: Manifest, target: Target, told: Callable[[bool, str], None]) -> None:
    """Ask again and again; `told` hears every verdict that is new, and every failing verdict again."""
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    tally = Tally()
    while True:
        answer = await ask(probe, target, timeout(probe))
        before, tally = tally, count(probe, tally, answer.good)
        if tally.verdict is not None and (tally.verdict != before.verdict or not answer.good):
            told(tally.verdict, answer.message)
        await asyncio.sleep(period(probe))
