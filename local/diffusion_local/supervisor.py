"""The first process of a cluster's namespaces: it starts everything, and everything dies with it.

Started by `launch` through `unshare`; it is process 1 of its PID namespace, so the kernel ends every process of the
cluster when it ends, whatever ends it.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from diffusion_local import components, control, forward, network
from diffusion_local.certificates import ADMIN_GROUP
from diffusion_local.claims import STORAGE_CLASS_OBJECT
from diffusion_local.errors import LocalClusterError
from diffusion_local.node.api_client import ApiClient, ApiError, ApiUnavailable, client_ssl
from diffusion_local.node.identity import users_not_held
from diffusion_local.nodes import Nodes
from diffusion_local.options import ClusterOptions
from diffusion_local.process import STOP_SECONDS, Component, Reaper
from diffusion_local.provisioner import Provisioner
from diffusion_local.service_network import ServiceNetwork
from diffusion_local.state import StateFolder

LOG = logging.getLogger(__name__)
START_SECONDS = 180.0
POLL_SECONDS = 0.1
MOST_RESTARTS = 3
OUTAGE_SECONDS = 0.5
"""The API server would wait for its watchers to go; an outage does not."""
COMPONENT_ENVIRONMENT = {"GOGC": "60"}
"""Collect garbage earlier: less memory, little more CPU."""


class Supervisor:
    """One running cluster."""

    def __init__(self, folder: StateFolder, options: ClusterOptions, api: socket.socket, router: socket.socket) -> None:
        self._folder = folder
        self._options = options
        self._sockets = (api, router)
        self._progress = control.Progress()
        self._end = asyncio.Event()
        self._followers: list[asyncio.Task[None]] = []
        credentials = components.issue_credentials(folder, options.name, options.api_port)
        self._components = {
            name: Component(name, command, folder.logs / f"{name}.log", COMPONENT_ENVIRONMENT, seconds)
            for name, seconds, command in (
                ("etcd", STOP_SECONDS, components.etcd(options, folder)),
                ("kube-apiserver", OUTAGE_SECONDS, components.api_server(options, folder, credentials)),
                ("kube-controller-manager", STOP_SECONDS, components.controller_manager(options, folder, credentials)),
                ("kube-scheduler", STOP_SECONDS, components.scheduler(options, folder)),
            )
        }
        authority = credentials.authority
        cloud = authority.client("cloud", "cloud-provider", [ADMIN_GROUP])
        admin = client_ssl(authority.files.certificate, credentials.admin.certificate, credentials.admin.key)
        self._client = ApiClient(components.API_URL, admin)
        self._network = ServiceNetwork(self._client, folder.hosts, options.forward)
        self._provisioner = Provisioner(self._client, folder.volumes)
        self._nodes = Nodes(folder, authority, cloud, self._client, options.node_monitor_grace_seconds)

    async def run(self) -> None:
        """Bring the cluster up and keep it until told to end; a failed start stays up for its reason to be asked."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        async with self._client:
            servers = [
                await forward.serve_socket(self._sockets[0], lambda: ("127.0.0.1", network.API_PORT)),
                await forward.serve_socket(self._sockets[1], self._network.choose_forwarded),
                await control.serve(self._folder.control_socket, self._handle, "supervisor"),
            ]
            tasks = [asyncio.create_task(part) for part in (self._start(), Reaper().run())]
            await self._end.wait()
            for task in [*tasks, *self._followers]:
                task.cancel()
            for server in servers:
                server.close()

    async def _start(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._bring_up()
        except TimeoutError:
            await self._progress.fail(f"the cluster was not up within {START_SECONDS:.0f} s; see {self._folder.logs}")
        except Exception as error:
            LOG.exception("the cluster did not start")
            await self._progress.fail(f"the cluster did not start: {error}; see {self._folder.logs}")
        else:
            await self._progress.finish()

    async def _bring_up(self) -> None:
        await self._components["etcd"].start()
        await self._components["kube-apiserver"].start()
        await self._api_ready()
        await self._progress.say("API server ready")
        if reason := users_not_held():
            await self._progress.say(reason)
        for name in ("kube-controller-manager", "kube-scheduler"):
            await self._components[name].start()
        await self._client.request("POST", "/apis/storage.k8s.io/v1/storageclasses", STORAGE_CLASS_OBJECT)
        self._followers = [asyncio.create_task(_keep(part.run)) for part in (self._network, self._provisioner)]
        wanted = [False] * self._options.nodes + [True] * self._options.spot
        names = [await self._nodes.add(None, spot=spot, gpus=self._options.gpus) for spot in wanted]
        for name in names:
            await self._nodes.await_ready(name)
            await self._progress.say(f"node {name} ready")

    async def _api_ready(self) -> None:
        """Wait for the API server, but not for one that cannot come."""
        while not await self._api_is_ready():
            for part in self._components.values():
                if part.restarts >= MOST_RESTARTS:
                    raise LocalClusterError(f"{part.name} does not stay up: {part.last_line()}")
            await asyncio.sleep(POLL_SECONDS)

    async def _api_is_ready(self) -> bool:
        try:
            await self._client.request("GET", "/readyz")
        except (ApiError, ApiUnavailable):
            return False
        return True

    async def _handle(self, order: dict[str, Any], say: control.Say) -> dict[str, Any]:
        name = order.get("name")
        match order["op"]:
            case "wait":
                async for line in self._progress.follow():
                    say(line)
            case "status":
                return self._status()
            case "apiserver-stop":
                await self._components["kube-apiserver"].stop()
            case "apiserver-start":
                await self._end_outage()
            case "node-add":
                name = await self._nodes.add(name, spot=bool(order["spot"]), gpus=int(order["gpus"]))
                await self._nodes.await_ready(name)
                return {"name": name}
            case "node-preempt":
                if not await self._nodes.preempt(str(name), float(order["notice"])):
                    say(f"node {name} could not give its notice yet (is the API server stopped?); it goes all the same")
            case "node-kill":
                await self._nodes.kill(str(name))
            case "node-recover":
                await self._nodes.recover(str(name))
                await self._nodes.await_ready(str(name))
            case other:
                raise LocalClusterError(f"unknown order {other!r}")
        return {}

    async def _end_outage(self) -> None:
        await self._components["kube-apiserver"].start()
        try:
            await asyncio.wait_for(self._api_ready(), START_SECONDS)
        except TimeoutError:
            raise LocalClusterError(
                f"the API server was not ready within {START_SECONDS:.0f} s; see {self._folder.logs}"
            ) from None

    def _status(self) -> dict[str, Any]:
        running = {name: part.running for name, part in self._components.items()}
        return {"components": running, "nodes": self._nodes.running(), "failure": self._progress.failure}


async def _keep(follow: Callable[[], Awaitable[None]]) -> None:
    """Run a follower again when an object that it cannot read ends it: one bad object must not stop all Services."""
    while True:
        try:
            await follow()
        except Exception:
            LOG.exception("a follower failed; starting it again")
        await asyncio.sleep(1)


def reserve_network() -> None:
    """Make every address of both ranges exist in this network namespace."""
    for command in network.UP_COMMANDS:
        subprocess.run(command, check=True)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--api-socket", type=int, required=True)
@click.option("--router-socket", type=int, required=True)
@click.option("--gate", type=int, required=True)
def main(folder: Path, api_socket: int, router_socket: int, gate: int) -> None:
    """Run a cluster in the namespaces that this process was started in, once the gate opens."""
    if not os.read(gate, 1):
        sys.exit("whoever started this has ended before it was on record")
    os.close(gate)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    state = StateFolder(folder)
    options = ClusterOptions.model_validate(json.loads(state.config.read_text()))
    reserve_network()
    sockets = [socket.socket(fileno=number) for number in (api_socket, router_socket)]
    asyncio.run(_run(state, options, *sockets))


async def _run(state: StateFolder, options: ClusterOptions, api: socket.socket, router: socket.socket) -> None:
    await Supervisor(state, options, api, router).run()


if __name__ == "__main__":
    main()
