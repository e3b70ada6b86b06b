"""Nodes at work: each is an agent in a PID namespace of its own, so that its end is the end of every pod on it."""

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from typing import Any

import psutil

from diffusion_local.certificates import Authority, KeyPair
from diffusion_local.errors import LocalClusterError
from diffusion_local.lifetimes import children_of
from diffusion_local.network import node_address
from diffusion_local.node.api_client import NOT_FOUND, ApiClient, ApiError, ApiUnavailable, persistently
from diffusion_local.node.configuration import NodeConfiguration
from diffusion_local.node_orders import (
    ON_DEMAND,
    SPOT,
    NodeIdentity,
    next_identity,
    node_capacity,
    node_config,
)
from diffusion_local.state import StateFolder, write_atomically

LOG = logging.getLogger(__name__)
OWN_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
READY_SECONDS = 60.0
ORDER_SECONDS = 10.0
LONGEST_NOTICE_SECONDS = 24 * 3600
LEAVE_SECONDS = 60.0
"""How long after its notice a preempted node may take to be gone before it is ended."""
POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0
ILL = "node.kubernetes.io/"
"""How the taints begin that the controller manager puts on a node that it takes for lost or not ready."""
CORDONED = f"{ILL}unschedulable"


class Nodes:
    """All nodes of a cluster, by name: those that run, and those that were killed and may recover."""

    def __init__(
        self, folder: StateFolder, authority: Authority, cloud: KeyPair, client: ApiClient, grace: int
    ) -> None:
        self._folder = folder
        self._authority = authority
        self._cloud = cloud
        self._client = client
        self._grace = grace
        self._known: dict[str, NodeIdentity] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._departures: dict[str, asyncio.Task[None]] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._recovering: set[str] = set()

    def running(self) -> dict[str, bool]:
        """Return whether each known node's agent runs."""
        return {name: self._process(name) is not None for name in self._known}

    async def add(self, name: str | None, *, spot: bool, gpus: int) -> str:
        """Start a new node and return its name, without waiting for it to be ready."""
        node = next_identity(self._known.values(), name, SPOT if spot else ON_DEMAND, gpus)
        self._folder.check_socket(node.name)
        self._known[node.name] = node
        await self._start(node)
        return node.name

    async def recover(self, name: str) -> None:
        """Start a node again that was killed or preempted, under its name."""
        node = self._identity(name)
        if self._process(name) is not None:
            raise LocalClusterError(f"node {name} is running: there is nothing to recover")
        if name in self._recovering:
            raise LocalClusterError(f"node {name} is being recovered already")
        self._recovering.add(name)
        try:
            if keeper := self._keepers.get(name):
                keeper.cancel()  # it may be about to boot a node that has just crashed: one is enough
            if departure := self._departures.pop(name, None):
                await departure
            await self._start(node)
        finally:
            self._recovering.discard(name)

    async def kill(self, name: str) -> None:
        """End a node and everything on it by SIGKILL; its Node object stays, as a dead machine's does."""
        process = self._process(name)
        self._identity(name)
        if process is None:
            raise LocalClusterError(f"node {name} is not running")
        self._keepers[name].cancel()
        for pid in _first_processes(process.pid):
            os.kill(pid, signal.SIGKILL)
        await process.wait()

    async def preempt(self, name: str, notice_seconds: float) -> bool:
        """Take a node away as a cloud does: announced for `notice_seconds` (up to a day), or by SIGKILL at once when 0.

        Returns whether the notice stands on the Node; an outage of the API server keeps it from there, and nothing
        else from its course.
        """
        self._identity(name)
        process = self._process(name)
        if not 0 <= notice_seconds <= LONGEST_NOTICE_SECONDS:  # no number is neither
            raise LocalClusterError(f"a notice is 0 to {LONGEST_NOTICE_SECONDS} s long, not {notice_seconds:g}")
        if process is None:
            raise LocalClusterError(f"node {name} is not running")
        if name in self._departures and not self._departures[name].done():
            raise LocalClusterError(f"node {name} is leaving already")
        if notice_seconds <= 0:
            await self.kill(name)
            self._departures[name] = asyncio.create_task(self._forget(name))
            await asyncio.wait({self._departures[name]}, timeout=ORDER_SECONDS)
            return True
        self._keepers[name].cancel()
        departure = asyncio.create_task(self._depart(name, process, notice_seconds + LEAVE_SECONDS))
        self._departures[name] = departure
        try:
            answer = await self._tell(name, {"op": "preempt", "notice": notice_seconds})
            return bool(answer.get("announced"))
        except LocalClusterError:
            departure.cancel()
            del self._departures[name]
            self._keepers[name] = asyncio.create_task(self._keep(self._known[name], process))
            raise

    async def await_ready(self, name: str) -> None:
        """Return when the API server shows the node as Ready; LocalClusterError when that takes a minute."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._is_ready(name):
                    if self._process(name) is None:
                        raise LocalClusterError(f"the agent of {name} ended; see `diffusion-local logs {name}`")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise LocalClusterError(
                f"node {name} was not ready within {READY_SECONDS:.0f} s; see `diffusion-local logs {name}`"
            ) from None

    async def _start(self, node: NodeIdentity) -> None:
        process = await self._boot(node)
        self._keepers[node.name] = asyncio.create_task(self._keep(node, process))

    async def _keep(self, node: NodeIdentity, process: asyncio.subprocess.Process) -> None:
        """Start a node again that ends without having been told to, as a machine that crashed boots again."""
        while True:
            code = await process.wait()
            LOG.warning("node %s ended by itself with code %s; starting it again", node.name, code)
            await asyncio.sleep(RETRY_SECONDS)
            try:
                process = await self._boot(node)
            except OSError as error:  # a full disk, say: the machine comes when it can
                LOG.warning("node %s cannot be started: %s; trying again", node.name, error)

    async def _boot(self, node: NodeIdentity) -> asyncio.subprocess.Process:
        home = self._folder.node(node.name)
        (home / "state").mkdir(parents=True, exist_ok=True)
        self._folder.node_socket(node.name).unlink(missing_ok=True)
        config = home / "config.json"
        write_atomically(config, self._config(node).to_json())
        with (self._folder.logs / f"{node.name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *OWN_NAMESPACES,
                *(sys.executable, "-m", "diffusion_local.node", "--config", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes[node.name] = process
        return process

    def _config(self, node: NodeIdentity) -> NodeConfiguration:
        # No name of a node has a dot: one called `ca` takes nobody's files.
        client = self._authority.client(f"{node.name}.client", f"system:node:{node.name}", ["system:nodes"])
        serving = self._authority.server(f"{node.name}.serving", [node.name], [node_address(node.index)])
        capacity = node_capacity(node.gpus, os.cpu_count() or 1, psutil.virtual_memory().total)
        return node_config(node, self._folder, client, serving, self._cloud, capacity, self._grace)

    async def _depart(self, name: str, process: asyncio.subprocess.Process, seconds: float) -> None:
        """The cloud's side of a preemption: whatever the node does, it is gone in the end."""
        try:
            await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            LOG.warning("node %s did not leave within %s s; ending it", name, seconds)
            await self.kill(name)
        await self._forget(name)

    async def _forget(self, name: str) -> None:
        """Remove the machine's disk and its Node object (the agent may have done so itself), through outages too."""
        await asyncio.to_thread(shutil.rmtree, self._folder.node(name), ignore_errors=True)
        try:
            await persistently(lambda: self._client.request("DELETE", f"/api/v1/nodes/{name}"), f"remove Node {name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                LOG.error("the Node %s cannot be removed: %s", name, error)

    async def _tell(self, name: str, order: dict[str, Any]) -> dict[str, Any]:
        """Give the agent an order and return its answer, which is empty where none came in time.

        Raises LocalClusterError when the agent did not take it.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(self._folder.node_socket(name))
        except OSError as error:
            raise LocalClusterError(f"node {name} does not take orders ({error!r})") from error
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                writer.write(json.dumps(order).encode() + b"\n")
                answer: dict[str, Any] = json.loads(await reader.readline() or b"{}")
        except (OSError, ValueError) as error:
            LOG.warning("node %s did not answer an order: %r", name, error)
            return {}
        finally:
            writer.close()
        if "error" in answer:
            raise LocalClusterError(f"node {name}: {answer['error']}")
        result: dict[str, Any] = answer.get("result", {})
        return result

    async def _is_ready(self, name: str) -> bool:
        try:
            node = await self._client.request("GET", f"/api/v1/nodes/{name}")
        except (ApiError, ApiUnavailable):
            return False
        conditions = node.get("status", {}).get("conditions", [])
        ready = any(part["type"] == "Ready" and part["status"] == "True" for part in conditions)
        taints = {taint["key"] for taint in node["spec"].get("taints") or []} - {CORDONED}
        ill = any(key.startswith(ILL) for key in taints)
        return ready and not ill and self._folder.node_socket(name).exists()

    def _identity(self, name: str) -> NodeIdentity:
        if name not in self._known:
            raise LocalClusterError(f"there is no node {name}: {', '.join(self._known) or 'none'} exist")
        return self._known[name]

    def _process(self, name: str) -> asyncio.subprocess.Process | None:
        process = self._processes.get(name)
        return process if process is not None and process.returncode is None else None


def _first_processes(unshare: int) -> list[int]:
    """The node's process 1 as we see it; the kernel ends all of its namespace with it and only then lets it go."""
    return children_of(unshare) or [unshare]
