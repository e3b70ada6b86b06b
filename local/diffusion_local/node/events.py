"""Events about pods, as `kubectl describe` shows them. They are told once and never hold anything up."""

import asyncio
import logging
import uuid
from collections.abc import Callable

from diffusion_local.node.api_client import MERGE, NOT_FOUND, ApiClient, ApiError, ApiUnavailable
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.moments import rfc3339
from diffusion_local.node.pod_record import init_containers

REMEMBERED = 500
log = logging.getLogger(__name__)


def field_path(pod: Manifest, container: str) -> str:
    """Where a container stands in its pod, as events say it."""
    initial = any(entry["name"] == container for entry in init_containers(pod))
    return f"spec.{'initContainers' if initial else 'containers'}{{{container}}}"


class EventWriter:
    """Writes events in the background; the same one again only raises the count of the first."""

    def __init__(self, api: ApiClient, node: str, clock: Callable[[], float]) -> None:
        self.api = api
        self.node = node
        self.clock = clock
        self.written: dict[tuple[str, str, str, str], Manifest] = {}
        self.queue: asyncio.Queue[Manifest] = asyncio.Queue(REMEMBERED)

    def tell(self, pod: Manifest, kind: str, reason: str, message: str, container: str = "") -> None:
        """Say something about a pod, or a container of it; `kind` is Normal or Warning."""
        metadata, now = pod["metadata"], rfc3339(self.clock())
        key = (metadata["uid"], container, reason, message)
        event = self.written.get(key) or {
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                **{field: metadata[field] for field in ("name", "namespace", "uid")},
                **({"fieldPath": field_path(pod, container)} if container else {}),
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
            try:
                await self.write(event)
            except (ApiError, ApiUnavailable) as error:
                log.debug("event %s dropped: %s", event["reason"], error)

    async def write(self, event: Manifest) -> None:
        """Write the event, or the count of one that is there; the first may have been lost in an outage."""
        path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        if event["count"] > 1:
            change = {"count": event["count"], "lastTimestamp": event["lastTimestamp"]}
            try:
                await self.api.request("PATCH", f"{path}/{event['metadata']['name']}", change, MERGE)
                return
            except ApiError as error:
                if error.status != NOT_FOUND:
                    raise
        await self.api.request("POST", path, event)
