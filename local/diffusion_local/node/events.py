"""Events about pods, as `kubectl describe` shows them. They are told once and never hold anything up."""

import asyncio
import logging
import uuid
from collections.abc import Callable

from diffusion_local.node.api_client import ApiClient, ApiError, ApiUnavailable
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.moments import rfc3339

REMEMBERED = 500
log = logging.getLogger(__name__)


class EventWriter:
    """Writes events in the background; the same one again only raises the count of the first."""

    def __init__(self, api: ApiClient, node: str, clock: Callable[[], float]) -> None:
        self.api = api
        self.node = node
        self.clock = clock
        self.written: dict[tuple[str, str, str], Manifest] = {}
        self.queue: asyncio.Queue[Manifest] = asyncio.Queue(REMEMBERED)

    def tell(self, pod: Manifest, kind: str, reason: str, message: str) -> None:
        """Say something about a pod; `kind` is Normal or Warning."""
        metadata, now = pod["metadata"], rfc3339(self.clock())
        key = (metadata["uid"], reason, message)
        event = self.written.get(key) or {
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                **{field: metadata[field] for field in ("name", "namespace", "uid")},
            },
            "type": kind,
            "reason": reason,
            "message": message[:1000],
            "firstTimestamp": now,
            "count": 0,
            "source": {"component": "kubelet", "host": self.node},
        }
        event = event | {"count": event["count"] + 1, "lastTimestamp": now}
        if len(self.written) > REMEMBERED:
            self.written.clear()
        self.written[key] = event
        if not self.queue.full():
            self.queue.put_nowait(event)

    async def run(self) -> None:
        """Write what is told, for ever; what the server does not take is dropped."""
        while True:
            event = await self.queue.get()
            path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
            try:
                if event["count"] == 1:
                    await self.api.request("POST", path, event)
                else:
                    change = {"count": event["count"], "lastTimestamp": event["lastTimestamp"]}
                    kind = "application/merge-patch+json"
                    await self.api.request("PATCH", f"{path}/{event['metadata']['name']}", change, kind)
            except (ApiError, ApiUnavailable) as error:
                log.debug("event %s dropped: %s", event["reason"], error)
