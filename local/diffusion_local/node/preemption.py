"""What a cloud does when it takes a spot machine back.

The Node gets a taint and a condition at once, and only when both are stored the pods hear of it; they get what is left
of the notice, then everything is killed, the node says that it is not ready, and the cloud deletes it. A preemption
without notice is none of the agent's: it is killed, as everything else on the machine.
"""

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from diffusion_local.node.api_client import NOT_FOUND, STRATEGIC_MERGE, ApiClient, ApiError, persistently
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.moments import rfc3339
from diffusion_local.node.node_object import node_condition
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
LONGEST_ANSWER = 5.0
"""Who ordered the preemption hears in so many seconds that it has begun, also while the API server is away."""
STATUS_WRITING_SECONDS = 5.0
log = logging.getLogger(__name__)


class Preemption:
    """The end of this node, at most once. `cloud` is how the pretended cloud reaches the API server."""

    def __init__(self, agent: "Agent", cloud: ApiClient) -> None:
        self.agent = agent
        self.cloud = cloud
        self.begun = False
        self.announced = asyncio.Event()
        """The notice is on the Node, or cannot be put there."""

    async def begin(self, notice: float) -> bool:
        """Start it, with `notice` seconds, more than none; returns whether the notice stands on the Node.

        While the API server is away it returns within LONGEST_ANSWER seconds; the notice is stored when it is back.
        """
        if self.begun:
            return self.announced.is_set()
        self.begun = True
        deadline = asyncio.get_running_loop().time() + notice
        self.agent.spawn(self.wind_down(notice, deadline))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.announced.wait(), min(notice, LONGEST_ANSWER))
        return self.announced.is_set()

    def refuse(self, worker: "PodWorker") -> None:
        """A pod that comes after the notice fails at once, as on a kubelet that shuts down."""
        worker.end(Verdict("NodeShutdown", REFUSED), Verdict("TerminationByKubelet", REFUSED), 0.0)

    async def announce(self, notice: float) -> None:
        """Put the notice on the Node; a Node that is not there (somebody deleted it) has none, and the rest goes on."""
        try:
            await self.put_notice(notice)
        except ApiError as error:
            log.error("no notice on the Node: %s", error)
        self.announced.set()

    async def put_notice(self, notice: float) -> None:
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
        """The notice, then the pods get what is left, then the node ends.

        While the API server is away the pods do not wait for a notice that nobody can read: the machine goes anyway.
        """
        loop = asyncio.get_running_loop()
        head_start = min(LONGEST_HEAD_START, notice / 5)
        announcing = asyncio.create_task(self.announce(notice))
        await asyncio.wait({announcing}, timeout=head_start)
        await asyncio.sleep(head_start)
        self.end_pods(deadline)
        await asyncio.sleep(max(deadline - loop.time(), 0))
        announcing.cancel()
        self.agent.kill_everything()
        try:
            await asyncio.wait_for(self.statuses_written(), STATUS_WRITING_SECONDS)
        except TimeoutError:
            log.warning("not all pod statuses could be written")
        self.agent.heartbeat.ready = False
        try:
            await self.agent.heartbeat.put_status()
        except ApiError as error:
            log.warning("the Node does not hear that it is not ready: %s", error)
        await self.vanish()

    def end_pods(self, deadline: float) -> None:
        """Ask every pod to end, with its grace or what is left until the `deadline` of the loop's clock."""
        failure = Verdict("Terminated", SHUTDOWN)
        disruption = Verdict("TerminationByKubelet", SHUTDOWN)
        for worker in list(self.agent.workers.values()):
            if worker.lives:
                worker.end(failure, disruption, min(worker.grace, deadline - asyncio.get_running_loop().time()))

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
