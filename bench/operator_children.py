"""Children in the cluster, counted by their owner as they come and go: a count that costs nothing at each event."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.informer import Informer, synced
from diffusion_operator.kube.resources import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    JOB,
    SERVICE,
)
from diffusion_operator.kube.store import Change, Store

KINDS = (CONFIG_MAP, CLAIM, SERVICE, DEPLOYMENT, JOB, DISRUPTION_BUDGET)
DEADLINE_SECONDS = 600.0
Object = dict[str, Any]


class Children:
    """The objects of one namespace of the kinds that children have."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()
        """How many objects name this UID as their owner now."""
        self._changed = asyncio.Event()
        self._store = Store()
        self._store.listeners.append(self._count)

    @asynccontextmanager
    async def watched(self, client: ApiClient, namespace: str) -> AsyncIterator["Children"]:
        """Watch until left."""
        informers = [Informer(client, self._store, kind, failed=lambda *_: None, namespace=namespace) for kind in KINDS]
        async with synced(informers):
            yield self

    async def until(self, wanted: Mapping[str, int]) -> None:
        """Return when each of these owners has so many; TimeoutError after the deadline."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while any(self.of[uid] < count for uid, count in wanted.items()):
                self._changed.clear()
                await self._changed.wait()

    def _count(self, change: Change) -> None:
        for item, step in ((change.old, -1), (change.new, 1)):
            for owner in item["metadata"].get("ownerReferences", ()) if item is not None else ():
                self.of[owner["uid"]] += step
        self._changed.set()
