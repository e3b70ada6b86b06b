"""The agent itself: hears about pods, keeps a worker for each, and does what the node as a whole owes."""

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from diffusion_local import control
from diffusion_local.errors import LocalClusterError
from diffusion_local.node.addresses import Addresses
from diffusion_local.node.api_client import ApiClient, Change, client_ssl
from diffusion_local.node.configuration import Manifest, NodeConfiguration
from diffusion_local.node.events import EventWriter
from diffusion_local.node.heartbeat import Heartbeat
from diffusion_local.node.log_server import LogServer
from diffusion_local.node.machine_files import Hosts, Images
from diffusion_local.node.memory_watch import LOOK_SECONDS, over_limit
from diffusion_local.node.object_watch import ObjectWatch
from diffusion_local.node.pod_network import exist
from diffusion_local.node.pod_worker import PodWorker
from diffusion_local.node.preemption import Preemption
from diffusion_local.node.service_links import ServiceLinks
from diffusion_local.node.services import NodeServices
from diffusion_local.removal import remove_tree

LOW_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
log = logging.getLogger(__name__)


class Agent:
    """One node."""

    def __init__(self, configuration: NodeConfiguration, api: ApiClient, cloud: ApiClient) -> None:
        self.configuration = configuration
        self.api = api
        self.services = NodeServices(
            configuration=configuration,
            api=api,
            objects=ObjectWatch(api),
            links=ServiceLinks(api),
            addresses=Addresses(configuration.pod_cidr),
            images=Images(configuration.images_file),
            hosts=Hosts(configuration.hosts_file),
            events=EventWriter(api, configuration.name, time.time),
            clock=time.time,
            allocatable=configuration.capacity,
        )
        self.heartbeat = Heartbeat(api, configuration)
        self.workers: dict[str, PodWorker] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self.finished = asyncio.Event()
        self.preemption = Preemption(self, cloud)

    async def run(self) -> None:
        """Until the node is preempted or the agent is told to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.finished.set)
        allow_low_ports()
        await exist(self.configuration.address)
        await self.heartbeat.register()
        self.spawn(self.services.links.follow())
        await self.services.links.heard.wait()
        runner = await LogServer(self.configuration, self.workers).start()
        orders = await control.serve(self.configuration.control_socket, self.obey, self.configuration.name)
        steady = (
            self.heartbeat.beat(),
            self.follow_pods(),
            self.services.hosts.keep_fresh(),
            self.services.events.run(),
            self.watch_memory(),
        )
        for coroutine in steady:
            self.spawn(coroutine)
        log.info("node %s is up", self.configuration.name)
        await self.finished.wait()
        self.kill_everything()
        orders.close()
        self.configuration.control_socket.unlink(missing_ok=True)
        await runner.cleanup()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run in the background; an error ends the agent, since a node that does half its work misleads."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[Any]) -> None:
        """A background task ended."""
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("the agent fails", exc_info=task.exception())
            self.finished.set()

    # ---- pods

    async def follow_pods(self) -> None:
        """Hear about this node's pods, for ever."""
        async for change in self.api.follow("/api/v1/pods", f"spec.nodeName={self.configuration.name}"):
            self.hear(change)

    def hear(self, change: Change) -> None:
        """Start, update or end workers."""
        if change.kind == "Gone":
            for pod in change.items:
                self.forget(pod["metadata"]["uid"])
            return
        for pod in change.items:
            self.put(pod)
        if change.kind == "Listed":
            there = {pod["metadata"]["uid"] for pod in change.items}
            for uid in set(self.workers) - there:
                self.forget(uid)

    def put(self, pod: Manifest) -> None:
        """A pod is new or different."""
        uid = pod["metadata"]["uid"]
        if worker := self.workers.get(uid):
            worker.update(pod)
            return
        worker = PodWorker(self.services, pod)
        self.workers[uid] = worker
        if self.preemption.begun:
            self.preemption.refuse(worker)
        self.spawn(self.serve(worker))

    async def serve(self, worker: PodWorker) -> None:
        """Run one pod; a fault in it is logged and hurts no other pod."""
        try:
            await worker.run()
        except Exception:  # noqa: BLE001 (logged by the worker; the other pods go on)
            log.error("pod %s is given up", worker.name)
        finally:
            self.workers.pop(worker.uid, None)

    def forget(self, uid: str) -> None:
        """A pod vanished from the API."""
        if worker := self.workers.get(uid):
            worker.forget()

    def kill_everything(self) -> None:
        """SIGKILL for every container."""
        for worker in self.workers.values():
            for run in worker.runs.values():
                run.process.signal(signal.SIGKILL)

    # ---- the node

    async def watch_memory(self) -> None:
        """Kill containers that use more memory than their limit."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            runs = [run for worker in self.workers.values() for run in worker.runs.values() if run.alive]
            limited = {run.process.pid: run for run in runs if run.memory_limit is not None}
            for pid in over_limit({pid: run.memory_limit or 0 for pid, run in limited.items()}):
                log.info("container %s of %s is out of memory", limited[pid].name, limited[pid].worker.name)
                limited[pid].run_out_of_memory()

    async def obey(self, order: Manifest, _: control.Say) -> Manifest:
        """An order at the control socket."""
        if order["op"] != "preempt":
            raise LocalClusterError(f"unknown order {order['op']!r}")
        return {"announced": await self.preemption.begin(float(order["notice"]))}


def allow_low_ports() -> None:
    """Let pods without privileges listen below 1024, as container runtimes do."""
    try:
        LOW_PORTS.write_text("0")
    except OSError as error:
        log.debug("low ports stay privileged: %s", error)


async def run_agent(configuration: NodeConfiguration) -> None:
    """Run one node until it ends."""
    own = client_ssl(configuration.ca_file, configuration.cert_file, configuration.key_file)
    cloud_identity = client_ssl(configuration.ca_file, configuration.cloud_cert_file, configuration.cloud_key_file)
    remove_earlier_pods(configuration.state_directory / "pods")
    async with ApiClient(configuration.server, own) as api, ApiClient(configuration.server, cloud_identity) as cloud:
        await Agent(configuration, api, cloud).run()


def remove_earlier_pods(folder: Path) -> None:
    """Clear what an agent left that was killed; its pods died with it, and so did its mounts."""
    remove_tree(folder)
