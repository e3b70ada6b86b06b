"""What a cloud does when it takes a spot machine back.

With notice: the Node gets a taint and a condition at once, and only when both are stored the pods hear of it; they get
what is left of the notice, then everything is killed, the node says that it is not ready, and the cloud deletes it.
Without notice everything dies at once and nobody writes anything about the pods; the cloud deletes the Node.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from diffusion_local.node.api_client import STRATEGIC_MERGE, ApiClient, ApiError, persistently
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.moments import rfc3339
from diffusion_local.node.node_object import node_condition, ready_condition
from diffusion_local.node.pod_record import Verdict

if TYPE_CHECKING:
    from diffusion_local.node.agent import Agent
    from diffusion_local.node.pod_worker import PodWorker

TAINT_KEY = "aws-node-termination-handler/spot-itn"
CONDITION = "SpotInterruption"
TERMINATES_AT = "diffusion.dev/terminates-at"
SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
REFUSED = "Pod was rejected as the node is shutting down."
LONGEST_HEAD_START = 1.0
NOT_FOUND = 404
STATUS_WRITING_SECONDS = 5.0
log = logging.getLogger(__name__)


class Preemption:
    """The end of this node, at most once. `cloud` is how the pretended cloud reaches the API server."""

    def __init__(self, agent: "Agent", cloud: ApiClient) -> None:
        self.agent = agent
        self.cloud = cloud
        self.begun = False

    async def begin(self, notice: float) -> None:
        """Start it; returns when the notice is stored on the Node, or with no notice when everything is dead."""
        if self.begun:
            return
        self.begun = True
        if notice <= 0:
            self.agent.kill_everything()
            self.agent.spawn(self.vanish())
            return
        deadline = asyncio.get_running_loop().time() + notice
        await self.announce(notice)
        self.agent.spawn(self.wind_down(notice, deadline))

    def refuse(self, worker: "PodWorker") -> None:
        """A pod that comes after the notice fails at once, as on a kubelet that shuts down."""
        worker.end(Verdict("NodeShutdown", REFUSED), Verdict("TerminationByKubelet", REFUSED), 0.0)

    async def announce(self, notice: float) -> None:
        """The condition, then the taint, and beside it when the machine ends."""
        now = time.time()
        message = "the cloud takes this spot machine back"
        condition = node_condition(CONDITION, "True", "SpotInterruptionNotice", message, now, now)
        await self.patch("/status", {"status": {"conditions": [condition]}})
        taint = {"key": TAINT_KEY, "value": "preempt", "effect": "NoSchedule"}
        node = await persistently(lambda: self.cloud.request("GET", self.agent.heartbeat.path), "read the node")
        others = [entry for entry in node["spec"].get("taints") or [] if entry["key"] != TAINT_KEY]
        ends = {"annotations": {TERMINATES_AT: rfc3339(now + notice)}}
        await self.patch("", {"metadata": ends, "spec": {"taints": [*others, taint]}})

    async def patch(self, subresource: str, body: Manifest) -> None:
        """Change the Node."""
        path = self.agent.heartbeat.path + subresource
        await persistently(lambda: self.cloud.request("PATCH", path, body, STRATEGIC_MERGE), "notice on the node")

    async def wind_down(self, notice: float, deadline: float) -> None:
        """Pods get what is left, then the node ends."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(min(LONGEST_HEAD_START, notice / 5))
        failure = Verdict("Terminated", SHUTDOWN)
        disruption = Verdict("TerminationByKubelet", SHUTDOWN)
        for worker in list(self.agent.workers.values()):
            if worker.lives:
                worker.end(failure, disruption, min(worker.grace, deadline - loop.time()))
        await asyncio.sleep(max(deadline - loop.time(), 0))
        self.agent.kill_everything()
        try:
            await asyncio.wait_for(self.statuses_written(), STATUS_WRITING_SECONDS)
        except TimeoutError:
            log.warning("not all pod statuses could be written")
        now = time.time()
        await self.patch("/status", {"status": {"conditions": [ready_condition(False, now, now)]}})
        await self.vanish()

    async def statuses_written(self) -> None:
        """Wait until every container's end is recorded and every status stored."""
        for worker in list(self.agent.workers.values()):
            for run in list(worker.runs.values()):
                await run.ending
            worker.publish()
            await worker.writer.flush()

    async def vanish(self) -> None:
        """The cloud deletes the Node; the agent ends."""
        path = self.agent.heartbeat.path
        try:
            await persistently(lambda: self.cloud.request("DELETE", path), "delete the node")
        except ApiError as error:
            if error.status != NOT_FOUND:
                log.error("the Node cannot be deleted: %s", error)
        self.agent.finished.set()
