"""Containers without processes, for tests of the node agent's pod workers: they do what the test says."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node import container_stop, pod_sandbox, pod_worker
from diffusion_local.node.addresses import Addresses
from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.container_start import PodPlace
from diffusion_local.node.events import EventWriter
from diffusion_local.node.machine_files import Hosts, Images
from diffusion_local.node.object_watch import ObjectWatch
from diffusion_local.node.pod_worker import PodWorker
from diffusion_local.node.service_links import ServiceLinks
from diffusion_local.node.services import NodeServices
from node_configurations import node_configuration
from tiny_api import TinyApi, eventually, with_tiny_api

POD_PATH = "/api/v1/namespaces/n/pods/p"


class PretendedProcess:
    """A process that ends when told to; `obeys` is the code with which it answers SIGTERM, None that it does not."""

    def __init__(self, obeys: int | None = 143) -> None:
        self.pid = 1
        self.spec: dict[str, Any] = {}
        self.obeys = obeys
        self.exited = asyncio.Event()
        self.exit_code = 0
        self.out_of_memory = False
        self.peak, self.inherited_peak, self.seconds = 0, 0, 0.0
        self.signals: list[signal.Signals] = []

    def end(self, exit_code: int) -> None:
        """End by itself."""
        self.exit_code = exit_code
        self.exited.set()

    def signal(self, number: signal.Signals) -> None:
        """Take a signal."""
        if self.exited.is_set():
            return
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.end(137)
        elif self.obeys is not None:
            self.end(self.obeys)

    async def finished(self) -> int:
        """Wait for the end."""
        await self.exited.wait()
        return self.exit_code


class Stage:
    """One node with one pod, its API server, and the processes that were started."""

    def __init__(self, server: TinyApi, client: ApiClient, folder: Path, pod: dict[str, Any]) -> None:
        self.server = server
        self.processes: dict[str, PretendedProcess] = {}
        self.obeys: int | None = 143
        configuration = node_configuration(folder)
        self.now = 1_800_000_000.0
        self.services = NodeServices(
            configuration=configuration,
            api=client,
            objects=ObjectWatch(client),
            links=ServiceLinks(client),
            addresses=Addresses(configuration.pod_cidr),
            images=Images(folder / "none"),
            hosts=Hosts(folder / "none"),
            events=EventWriter(client, "node-1", lambda: self.now),
            clock=lambda: self.now,
            allocatable={},
        )
        self.server.answer("PATCH", f"{POD_PATH}/status", (200, {}))
        self.server.answer("DELETE", POD_PATH, (200, {}))
        self.pod = pod
        self.worker = PodWorker(self.services, pod)
        self.life = asyncio.create_task(self.worker.run())

    async def start(
        self, _: NodeServices, pod: dict[str, Any], container: dict[str, Any], place: PodPlace, run: int
    ) -> PretendedProcess:
        """What the worker calls to start a container."""
        process = PretendedProcess(self.obeys)
        self.processes[container["name"]] = process
        return process

    def statuses(self) -> list[dict[str, Any]]:
        """Every status that was written."""
        return [
            body["status"]
            for method, path, body in self.server.requests
            if (method, path) == ("PATCH", f"{POD_PATH}/status")
        ]

    def running(self) -> set[str]:
        """The containers that have a process and of which the status written last says that they run."""
        status = self.statuses()[-1]
        told = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return {one["name"] for one in told if "running" in one["state"]} & set(self.processes)

    def phase(self) -> str:
        """The phase that was written last."""
        return str(self.statuses()[-1]["phase"]) if self.statuses() else ""

    def condition(self, kind: str) -> str:
        """The status of a condition that was written last."""
        return next(str(entry["status"]) for entry in self.statuses()[-1]["conditions"] if entry["type"] == kind)

    def events(self) -> list[dict[str, Any]]:
        """Every event that was told, as it is now."""
        return list(self.services.events.written.values())

    def told(self) -> list[str]:
        """The reasons of all events, as often as each was told."""
        return [event["reason"] for event in self.events() for _ in range(event["count"])]

    def delete(self, grace: float) -> None:
        """The pod is deleted in the API."""
        marks = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        self.pod = {**self.pod, "metadata": {**self.pod["metadata"], **marks}}
        self.worker.update(self.pod)

    def deletions(self) -> int:
        """How often the worker removed the pod from the API."""
        return sum((method, path) == ("DELETE", POD_PATH) for method, path, _ in self.server.requests)


Play = Callable[[Callable[[Stage], Awaitable[None]], dict[str, Any]], None]
"""Runs a test with a worker for a pod (the fixture `play`)."""


async def running(stage: Stage, *names: str) -> None:
    """Wait until the pod runs, with these containers, and says so."""
    await eventually(lambda: stage.phase() == "Running" and stage.running() >= set(names), "the pod runs")


def on_stage(
    test: Callable[[Stage], Awaitable[None]], pod: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a test with a worker whose containers are pretended."""

    async def play(server: TinyApi, client: ApiClient) -> None:
        stage = Stage(server, client, folder, pod)
        monkeypatch.setattr(pod_worker, "start_container", stage.start)
        monkeypatch.setattr(pod_sandbox.PodSandbox, "connect", no_network)
        monkeypatch.setattr(container_stop, "LEAST_SECONDS", 0.2)
        try:
            await test(stage)
        finally:
            stage.life.cancel()
            await asyncio.gather(stage.life, return_exceptions=True)

    with_tiny_api(play)


async def no_network(_: pod_sandbox.PodSandbox) -> None:
    """In place of making a network."""
