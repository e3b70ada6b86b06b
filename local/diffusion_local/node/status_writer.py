"""Writing one pod's status: only when it differs, always the newest, through any outage."""

import asyncio
import logging
from functools import partial

from diffusion_local.node.api_client import CONFLICT, NOT_FOUND, STRATEGIC_MERGE, ApiClient, ApiError, persistently
from diffusion_local.node.back_off import delay_before_retry
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.status_comparison import holds

GONE = (NOT_FOUND, CONFLICT)
LONGEST_CONFLICT = 6
REPLACE = {"$patch": "replace"}
"""Heads a list that is to become exactly this one: a pod that is started again has another address, not one more."""
log = logging.getLogger(__name__)


def pod_path(pod: Manifest) -> str:
    """Where a pod lives in the API."""
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


class StatusWriter:
    """The status of one pod."""

    def __init__(self, api: ApiClient, pod: Manifest) -> None:
        self.api = api
        self.pod = pod
        self.wanted: Manifest = pod.get("status") or {}
        self.stored: Manifest | None = self.wanted
        """What the server holds; None when somebody else has changed it."""
        self.used = False
        """Something was to be written: until then the status is somebody else's."""
        self.lock = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None

    def put(self, status: Manifest) -> None:
        """Have this status written soon."""
        if status == self.wanted:
            return
        self.wanted = status
        self.used = True
        self.begin()

    def see(self, status: Manifest) -> None:
        """The status in the API is now this: where it is no longer what was written, it is written again."""
        if self.used and self.stored == self.wanted and not holds(self.wanted, status):
            self.stored = None
            self.begin()

    def begin(self) -> None:
        """Have the newest status written, unless that is going on."""
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self.flush())

    async def flush(self) -> None:
        """Write until the newest wanted status is stored, or the pod is gone."""
        async with self.lock:
            conflicts = 0
            while self.stored != self.wanted:
                status = self.wanted
                try:
                    await persistently(partial(self.send, status), f"status of pod {self.pod['metadata']['name']}")
                except ApiError as error:
                    if error.status == CONFLICT and conflicts < LONGEST_CONFLICT:
                        conflicts += 1  # many writers at once, or a new pod of the same name
                        await asyncio.sleep(delay_before_retry(conflicts))
                        continue
                    if error.status not in GONE:
                        log.warning("status of pod %s refused: %s", self.pod["metadata"]["name"], error)
                self.stored = status

    async def send(self, status: Manifest) -> None:
        """One attempt; for this very pod, not for a later one of its name."""
        whole = {field: [REPLACE, *status[field]] for field in ("podIPs", "hostIPs") if field in status}
        body = {"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": status | whole}
        await self.api.request("PATCH", f"{pod_path(self.pod)}/status", body, STRATEGIC_MERGE)


async def delete_for_good(api: ApiClient, pod: Manifest) -> bool:
    """Tell the API server that nothing of the pod is left; False when it does not take that."""
    body = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": pod["metadata"]["uid"]},
    }
    try:
        await persistently(lambda: api.request("DELETE", pod_path(pod), body), f"delete {pod['metadata']['name']}")
    except ApiError as error:
        if error.status not in GONE:
            log.warning("deletion of pod %s refused: %s", pod["metadata"]["name"], error)
            return False
    return True
