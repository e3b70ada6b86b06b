"""Asking a container: HTTP, TCP, gRPC and exec, for probes and for lifecycle hooks."""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import yarl

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_process import BARE_ENVIRONMENT, bare_python
from diffusion_local.node.grpc_health import health
from diffusion_local.node.probe_tally import Tally, count, period, port_number, timeout

SHOWN_OUTPUT = 1024
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 10


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


async def ask_http(action: Manifest, target: Target, seconds: float | None) -> Answer:
    """GET; 200 to 399 is good. Certificates are not checked. Redirects are followed on the same host only."""
    scheme = (action.get("scheme") or "HTTP").lower()
    host, path = action.get("host") or target.pod_ip, action.get("path") or "/"
    url = f"{scheme}://{host}:{port_number(action['port'], target.container)}/{path.removeprefix('/')}"
    headers = {entry["name"]: entry["value"] for entry in action.get("httpHeaders") or []}
    headers = {"User-Agent": "kube-probe/1", "Connection": "close"} | headers
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), headers=headers) as session,
        ):
            return await visit(session, yarl.URL(url))
    except aiohttp.ClientConnectorError as error:
        return Answer(False, f'Get "{url}": {not_dialed(error.host, error.port, error.os_error)}')
    except TimeoutError:
        return Answer(False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)')
    except (aiohttp.ClientError, OSError) as error:
        return Answer(False, f'Get "{url}": {str(error) or type(error).__name__}')


def not_dialed(host: str, port: int | None, error: OSError) -> str:
    """Why there is no connection, in a kubelet's words."""
    if isinstance(error, TimeoutError):
        return f"dial tcp {host}:{port}: i/o timeout"
    reason = f"connect: {os.strerror(error.errno).lower()}" if error.errno else str(error)
    return f"dial tcp {host}:{port}: {reason}"


async def visit(session: aiohttp.ClientSession, url: yarl.URL) -> Answer:
    """GET and follow redirects; one that leads to another host is good as it is."""
    for _ in range(1 + MOST_REDIRECTS):
        async with session.get(url, ssl=False, allow_redirects=False) as answer:
            elsewhere = answer.headers.get("Location") if answer.status in REDIRECTS else None
            if not 200 <= answer.status < 400:
                return Answer(False, f"HTTP probe failed with statuscode: {answer.status}")
        following = url.join(yarl.URL(elsewhere)) if elsewhere else None
        if following is None or following.host != url.host:
            return Answer(True)
        url = following
    return Answer(False, f'Get "{url}": stopped after {MOST_REDIRECTS} redirects')


async def ask_tcp(action: Manifest, target: Target, seconds: float | None) -> Answer:
    """A connection that opens is good."""
    host, port = action.get("host") or target.pod_ip, port_number(action["port"], target.container)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), seconds)
        writer.close()
        return Answer(True)
    except OSError as error:
        return Answer(False, not_dialed(host, port, error))


async def ask_grpc(action: Manifest, target: Target, seconds: float | None) -> Answer:
    """grpc.health.v1: SERVING is good."""
    place = f"{target.pod_ip}:{action['port']}"
    try:
        async with asyncio.timeout(seconds):
            status = await health(target.pod_ip, action["port"], action.get("service") or "")
    except TimeoutError:
        return Answer(False, f'timeout: failed to connect service "{place}" within {seconds:g}s')
    except OSError as error:
        return Answer(False, not_dialed(target.pod_ip, action["port"], error))
    return Answer(True) if status == "SERVING" else Answer(False, f'service unhealthy (responded with "{status}")')


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
                process.terminate()  # which kills the command, see enter.py
    return Answer(process.returncode == 0, output[:SHOWN_OUTPUT].decode(errors="replace"))


async def ask(handler: Manifest, target: Target, seconds: float | None) -> Answer:
    """One question by whichever handler is given, for at most `seconds`; None is as long as it takes."""
    try:
        if action := handler.get("httpGet"):
            return await ask_http(action, target, seconds)
        if action := handler.get("tcpSocket"):
            return await ask_tcp(action, target, seconds)
        if action := handler.get("grpc"):
            return await ask_grpc(action, target, seconds)
        if action := handler.get("exec"):
            return await ask_command(action, target, seconds)
        if action := handler.get("sleep"):
            await asyncio.sleep(action["seconds"])
            return Answer(True)
    except Exception as error:  # noqa: BLE001 (whatever prevents the question is the answer)
        return Answer(False, str(error) or repr(error))
    return Answer(False, "this node does not support this kind of probe")


async def watch_probe(
    probe: Manifest, target: Target, told: Callable[[bool], None], failed: Callable[[str], None]
) -> None:
    """Ask every period, however long answers take.

    `failed` hears every bad answer, `told` every verdict that is new or confirmed to be bad.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    tally, clock = Tally(), asyncio.get_running_loop().time
    due = clock()
    while True:
        answer = await ask(probe, target, timeout(probe))
        if not answer.good:
            failed(answer.message)
        before, tally = tally, count(probe, tally, answer.good)
        if tally.verdict is not None and (tally.verdict != before.verdict or not (answer.good or tally.verdict)):
            told(tally.verdict)
        due = max(due + period(probe), clock())
        await asyncio.sleep(due - clock())
