"""The first process of a cluster's namespaces: it starts everything, and everything dies with it.

Started by `launch` through `unshare`; it is process 1 of its PID namespace, so the kernel ends every process of the
cluster when it ends, whatever ends it.
"""

import asyncio
import json
import logging
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import click

from diffusion_local import components, control, forward, network
from diffusion_local.api import ApiClient, ApiError
from diffusion_local.errors import LocalClusterError
from diffusion_local.options import ClusterOptions
from diffusion_local.process import Component, Reaper
from diffusion_local.state import StateFolder

LOG = logging.getLogger(__name__)
START_SECONDS = 120.0
POLL_SECONDS = 0.1


class Supervisor:
    """One running cluster."""

    def __init__(self, folder: StateFolder, options: ClusterOptions, api: socket.socket, router: socket.socket) -> None:
        self._folder = folder
        self._options = options
        self._sockets = (api, router)
        self._progress = control.Progress()
        self._end = asyncio.Event()
        credentials = components.issue_credentials(folder, options.name, options.api_port)
        self._credentials = credentials
        self._components = {
            name: Component(name, command, folder.logs / f"{name}.log", {"GOGC": "60"})
            for name, command in {
                "etcd": components.etcd(options, folder),
                "kube-apiserver": components.api_server(options, folder, credentials),
                "kube-controller-manager": components.controller_manager(options, folder, credentials),
                "kube-scheduler": components.scheduler(options, folder),
            }.items()
        }

    async def run(self) -> None:
        """Bring the cluster up and keep it until told to end; a failed start stays up for its reason to be asked."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        self._client = ApiClient(
            components.API_URL, str(self._credentials.authority.files.certificate), self._credentials.admin
        )
        servers = [
            await control.serve(self._folder.control_socket, self._handle),
            await forward.serve_socket(self._sockets[0], lambda: ("127.0.0.1", network.API_PORT)),
        ]
        start = asyncio.create_task(self._start())
        await self._end.wait()
        start.cancel()
        for server in servers:
            server.close()
        await self._client.close()

    async def _start(self) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._bring_up()
        except TimeoutError:
            await self._progress.fail(f"the cluster was not up within {START_SECONDS:.0f} s; see {self._folder.logs}")
        except (LocalClusterError, ApiError, OSError, aiohttp.ClientError) as error:
            await self._progress.fail(f"the cluster did not start: {error}; see {self._folder.logs}")
        else:
            await self._progress.finish()

    async def _bring_up(self) -> None:
        await self._components["etcd"].start()
        await self._components["kube-apiserver"].start()
        await self._api_ready()
        await self._progress.say("API server ready")
        for name in ("kube-controller-manager", "kube-scheduler"):
            await self._components[name].start()

    async def _api_ready(self) -> None:
        while not await self._client.ready():
            await asyncio.sleep(POLL_SECONDS)

    async def _handle(self, order: dict[str, Any], say: control.Say) -> dict[str, Any]:
        match order["op"]:
            case "wait":
                async for line in self._progress.follow():
                    say(line)
                return {}
            case "status":
                return {"components": {name: part.running for name, part in self._components.items()}}
            case "apiserver-stop":
                await self._components["kube-apiserver"].stop()
                return {}
            case "apiserver-start":
                await self._components["kube-apiserver"].start()
                await asyncio.wait_for(self._api_ready(), START_SECONDS)
                return {}
            case "down":
                self._end.set()
                return {}
            case other:
                raise LocalClusterError(f"unknown order {other!r}")


def reserve_network() -> None:
    """Make every address of both ranges exist in this network namespace."""
    for command in network.UP_COMMANDS:
        subprocess.run(command, check=True)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--api-socket", type=int, required=True)
@click.option("--router-socket", type=int, required=True)
def main(folder: Path, api_socket: int, router_socket: int) -> None:
    """Run a cluster in the namespaces that this process was started in."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    state = StateFolder(folder)
    options = ClusterOptions.model_validate(json.loads(state.config.read_text()))
    reserve_network()
    sockets = [socket.socket(fileno=number) for number in (api_socket, router_socket)]
    asyncio.run(_run(state, options, *sockets))


async def _run(state: StateFolder, options: ClusterOptions, api: socket.socket, router: socket.socket) -> None:
    supervisor = Supervisor(state, options, api, router)
    reaper = asyncio.create_task(Reaper().run())
    await supervisor.run()
    reaper.cancel()


if __name__ == "__main__":
    main()
