"""Registers the node and keeps saying that it is alive: a Lease every few seconds, the status every minute."""

import asyncio
import contextlib
import logging
import time
import uuid

from diffusion_local.node.api_client import STRATEGIC_MERGE, ApiClient, ApiError, ApiUnavailable, persistently
from diffusion_local.node.configuration import Manifest, NodeConfiguration
from diffusion_local.node.node_object import lease_manifest, node_manifest, node_status

STATUS_SECONDS = 60.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
MERGE = "application/merge-patch+json"
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
            if error.status != 409:
                raise
            labels = {"metadata": {"labels": wanted["metadata"]["labels"]}}
            node = await self.api.request("PATCH", self.path, labels, STRATEGIC_MERGE)
        return node

    async def put_status(self) -> None:
        """Write the whole status."""
        status = node_status(self.configuration, self.boot_id, self.since, time.time())
        body = {"status": status}
        await persistently(
            lambda: self.api.request("PATCH", f"{self.path}/status", body, STRATEGIC_MERGE), "status of the node"
        )

    async def put_lease(self) -> None:
        """Renew the Lease, or make it."""
        lease = lease_manifest(self.configuration, self.uid, time.time())
        with contextlib.suppress(ApiUnavailable):
            try:
                await self.api.request("PATCH", f"{LEASES}/{self.configuration.name}", {"spec": lease["spec"]}, MERGE)
            except ApiError as error:
                if error.status != 404:
                    raise
                await self.api.request("POST", LEASES, lease)

    async def beat(self) -> None:
        """For ever. A Node that somebody deleted is made again, as a kubelet does at its next start."""
        next_status = time.monotonic() + STATUS_SECONDS
        while True:
            await asyncio.sleep(self.configuration.lease_renew_seconds)
            try:
                await self.put_lease()
                if time.monotonic() >= next_status:
                    next_status = time.monotonic() + STATUS_SECONDS
                    await self.put_status()
            except ApiError as error:
                log.warning("heartbeat refused: %s", error)
