"""Registers the node and keeps saying that it is alive: a Lease every few seconds, the status every minute.

The status comes at once where the controller manager may have judged the node dead: after a renewal that failed or came
late (a machine that slept, a server that was away), and when a look every ten seconds finds it so.
"""

import asyncio
import logging
import time
import uuid

from diffusion_local.node.api_client import (
    CONFLICT,
    MERGE,
    NOT_FOUND,
    STRATEGIC_MERGE,
    ApiClient,
    ApiError,
    ApiUnavailable,
    persistently,
)
from diffusion_local.node.configuration import Manifest, NodeConfiguration
from diffusion_local.node.node_object import lease_manifest, node_manifest, node_status

STATUS_SECONDS = 60.0
LOOK_SECONDS = 10.0
LATE = 2.0
"""A Lease is renewed late after so many times its interval."""
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
log = logging.getLogger(__name__)


class Heartbeat:
    """The Node object of this agent."""

    def __init__(self, api: ApiClient, configuration: NodeConfiguration) -> None:
        self.api = api
        self.configuration = configuration
        self.boot_id = str(uuid.uuid4())
        self.since = time.time()
        self.uid = ""
        self.path = f"/api/v1/nodes/{configuration.name}"
        self.ready = True
        """False once the node shuts down."""
        self.renewed_at = self.status_at = self.looked_at = time.monotonic()

    async def register(self) -> None:
        """Have a Node with a status of ours; one that an earlier agent left is taken over."""
        wanted = node_manifest(self.configuration)
        node = await persistently(lambda: self.created_or_taken(wanted), "register the node")
        self.uid = node["metadata"]["uid"]
        await self.put_lease()
        await self.put_status()

    async def created_or_taken(self, wanted: Manifest) -> Manifest:
        """Create the Node, or bring the labels of an existing one up to date."""
        try:
            node: Manifest = await self.api.request("POST", "/api/v1/nodes", wanted)
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            labels = {"metadata": {"labels": wanted["metadata"]["labels"]}}
            node = await self.api.request("PATCH", self.path, labels, STRATEGIC_MERGE)
        return node

    async def put_status(self) -> None:
        """Write the whole status."""
        status = node_status(self.configuration, self.boot_id, self.since, time.time(), self.ready)
        body = {"status": status}
        await persistently(
            lambda: self.api.request("PATCH", f"{self.path}/status", body, STRATEGIC_MERGE), "status of the node"
        )
        self.status_at = time.monotonic()

    async def put_lease(self) -> bool:
        """Renew the Lease, or make it; False when the server cannot be reached."""
        lease = lease_manifest(self.configuration, self.uid, time.time())
        try:
            try:
                await self.api.request("PATCH", f"{LEASES}/{self.configuration.name}", {"spec": lease["spec"]}, MERGE)
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise
                await self.api.request("POST", LEASES, lease)
        except ApiUnavailable:
            return False
        return True

    async def beat(self) -> None:
        """For ever. A Node that somebody deleted is not made again: as with a kubelet, that takes a restart."""
        while True:
            await asyncio.sleep(self.configuration.lease_renew_seconds)
            try:
                await self.beat_once(time.monotonic())
            except ApiError as error:
                log.warning("heartbeat refused: %s", error)

    async def beat_once(self, now: float) -> None:
        """Renew the Lease, and write the status where it is due or no longer what it was; `now` is monotonic."""
        late = now - self.renewed_at > LATE * self.configuration.lease_renew_seconds
        if not await self.put_lease():
            return
        self.renewed_at = now
        if late or now - self.status_at >= STATUS_SECONDS or await self.is_doubted(now):
            await self.put_status()

    async def is_doubted(self, now: float) -> bool:
        """Whether the Node says otherwise than this agent; asked every ten seconds only."""
        if now - self.looked_at < LOOK_SECONDS:
            return False
        self.looked_at = now
        try:
            node = await self.api.request("GET", self.path)
        except ApiUnavailable:
            return False
        said = {entry["type"]: entry["status"] for entry in node.get("status", {}).get("conditions") or []}
        return said.get("Ready") != ("True" if self.ready else "False")
