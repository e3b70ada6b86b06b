"""Cluster start: seconds from typing `diffusion-local up` to the API server, the nodes, and a first pod at work.

The programs of the control plane are in the cache (the first build takes minutes and is not part of it). The command
runs in a state folder of its own with one node on demand and one spot node, as by default; this process looks from
outside twenty times a second over the forwarded address. The pod is created as soon as its namespace lets it be, so it
waits for the scheduler and the nodes as any early pod does; it prints one line, sleeps half a second and ends.
"""

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.figure import Figure
from diffusion_local.binaries.find import ensure
from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS
from diffusion_local.certificates import KeyPair
from diffusion_local.cluster import Cluster
from diffusion_local.node.api_client import ApiClient, ApiError, ApiUnavailable, client_ssl
from diffusion_local.state import HOME_VARIABLE, StateFolder

ROUNDS = 3
NAME = "bench"
NODES = 2
LOOK_SECONDS = 0.05
DEADLINE_SECONDS = 180.0
PODS = "/api/v1/namespaces/default/pods"
BASELINE = "API server ready"
MOMENTS = (BASELINE, "Both nodes ready", "`up` returns", "First pod Running", "First pod Succeeded")


def measure(console: Console) -> list[Figure]:
    """Start a cluster several times; the median of each moment, in seconds since the command.

    All but the first are compared with the start of the API server, which is Kubernetes' own and the same anywhere.
    """
    ensure(CLUSTER_PROGRAMS, console.print)
    rounds = []
    for _ in range(ROUNDS):
        rounds.append(_start_once())
        console.print("  " + ", ".join(f"{what} {rounds[-1][what]:.1f} s" for what in MOMENTS))
    medians = {what: statistics.median(moments[what] for moments in rounds) for what in MOMENTS}
    longest = {what: max(moments[what] for moments in rounds) for what in MOMENTS}
    return [
        Figure(
            what,
            medians[what],
            "s",
            baseline_name="" if what == BASELINE else BASELINE,
            baseline=None if what == BASELINE else medians[BASELINE],
            note=f"median of {ROUNDS} starts, longest {longest[what]:.1f} s",
        )
        for what in MOMENTS
    ]


def _start_once() -> dict[str, float]:
    """Start one cluster, note the moments, and take it down again."""
    with tempfile.TemporaryDirectory(prefix="diffusion-bench-") as home:
        environment = os.environ | {HOME_VARIABLE: home}
        command = [sys.executable, "-m", "diffusion_local"]
        began = time.monotonic()
        up = subprocess.Popen(
            [*command, "up", "--name", NAME], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            return asyncio.run(_watch(StateFolder(Path(home) / NAME), up, began))
        finally:
            up.kill()
            up.communicate()
            subprocess.run([*command, "down", "--name", NAME], env=environment, check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(home, ignore_errors=True)


async def _watch(folder: StateFolder, up: "subprocess.Popen[bytes]", began: float) -> dict[str, float]:
    moments: dict[str, float] = {}

    async def note(what: str, happened: Callable[[], Awaitable[bool]]) -> None:
        while not await happened():
            if up.poll():
                raise RuntimeError(f"`diffusion-local up` failed: {up.communicate()[1].decode()}")
            await asyncio.sleep(LOOK_SECONDS)
        moments[what] = time.monotonic() - began

    async def returned() -> bool:
        return up.poll() == 0

    async with asyncio.timeout(DEADLINE_SECONDS), _client(folder, note) as client, asyncio.TaskGroup() as notes:
        await note("API server ready", lambda: _ready(client))
        notes.create_task(note("Both nodes ready", lambda: _nodes_ready(client)))
        notes.create_task(note("`up` returns", returned))
        await note("pod created", lambda: _create_pod(client))
        await note("First pod Running", lambda: _phase_is(client, "Running", "Succeeded"))
        await note("First pod Succeeded", lambda: _phase_is(client, "Succeeded"))
    return moments


@contextlib.asynccontextmanager
async def _client(
    folder: StateFolder, note: Callable[[str, Callable[[], Awaitable[bool]]], Awaitable[None]]
) -> AsyncIterator[ApiClient]:
    """An administrator's client, as soon as the folder holds what it needs."""

    async def issued() -> bool:
        return folder.kubeconfig.exists()

    await note("access", issued)
    cluster = Cluster(folder)
    admin: KeyPair = cluster.client_certificate("bench", ["system:masters"]).files
    async with ApiClient(cluster.server, client_ssl(cluster.authority, admin.certificate, admin.key)) as client:
        yield client


async def _answer(client: ApiClient, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer, or {} while the server does not give one."""
    try:
        answer: dict[str, Any] = await client.request(method, path, body)
    except (ApiError, ApiUnavailable):
        return {}
    return answer


async def _ready(client: ApiClient) -> bool:
    return bool(await _answer(client, "GET", "/readyz"))


async def _nodes_ready(client: ApiClient) -> bool:
    nodes = (await _answer(client, "GET", "/api/v1/nodes")).get("items", [])
    states = [state for node in nodes for state in node["status"].get("conditions", []) if state["type"] == "Ready"]
    return len(states) == NODES and all(state["status"] == "True" for state in states)


async def _create_pod(client: ApiClient) -> bool:
    container = {"name": "first", "image": "busybox:1.37", "command": ["sh", "-c", "echo here; sleep 0.5"]}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "first"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    return bool(await _answer(client, "POST", PODS, body))


async def _phase_is(client: ApiClient, *phases: str) -> bool:
    return (await _answer(client, "GET", f"{PODS}/first")).get("status", {}).get("phase") in phases
