"""Keeps one kind in the store: list in pages, then watch; a relist replaces, so nothing that vanished stays.

Why not kopf for this: docs/adr/0001-kopf-is-the-ear.md. What can end a watch, and what follows:

    the server closes it (timeoutSeconds)     watch on from the last version
    no byte for `silence` seconds             the connection is dead without saying so: watch on from the last version
    410 Gone, any other ERROR event           list again
    it ends without having told anything      the same as before, with growing pauses: a list alone is no recovery
    nothing can be reached                    try again with growing pauses; `heard_at` stands still: health turns red
    a named namespace is forbidden (403)      the same, but heard: it was deleted, most often, and its roles with it
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import orjson

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import ApiRefusal, Gone, KubeError, Unreachable
from diffusion_operator.kube.resources import Resource
from diffusion_operator.kube.store import Change, Store, version_of
from diffusion_operator.observe.snapshot import Raw

PAGE = 500
FORBIDDEN = 403
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0

FailureObserver = Callable[[str, Exception], None]
"""Told of what went wrong with the watch of a kind."""


class Relist(Exception):
    """The watch cannot go on from where it is."""


class Informer:
    """One kind in one namespace ("" is all of them), by label selector.

    `synced` is set after the first whole list, and cleared where a later one of a named namespace is forbidden.
    """

    def __init__(
        self,
        client: ApiClient,
        store: Store,
        resource: Resource,
        *,
        failed: FailureObserver,
        namespace: str = "",
        selector: str = "",
        silence: float = 90.0,
    ) -> None:
        self.resource, self.namespace = resource, namespace
        self.synced = asyncio.Event()
        self.heard_at = time.monotonic()
        """When the API server last said anything about this kind, on the monotonic clock."""
        self._client, self._store, self._failed = client, store, failed
        self._query = {"labelSelector": selector} if selector else {}
        self._silence = silence
        self._version = ""
        self._refused_since: float | None = None

    def refused_for(self) -> float:
        """Seconds for which the API server has forbidden a named namespace to be read; 0 where it has not."""
        return 0.0 if self._refused_since is None else time.monotonic() - self._refused_since

    def last_heard(self) -> float:
        """`heard_at` as it is now, for those who look again and again."""
        return self.heard_at

    async def run(self) -> None:
        """List and watch until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            heard_before = self.heard_at
            try:
                if not self._version:
                    await self.list()
                    heard_before = self.heard_at
                await self._watch()
                if self.heard_at == heard_before:
                    raise Unreachable(f"the watch of {self.resource.plural} was closed before it told anything")
                pause = _FIRST_PAUSE
            except (KubeError, Relist) as error:
                if isinstance(error, Relist | ApiRefusal):
                    self._version = ""
                self._failed(self.resource.kind, error)
                is_heard = self.heard_at > heard_before and self._refused_since is None
                pause = _FIRST_PAUSE if is_heard else pause
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                pause = min(_LONGEST_PAUSE, pause * 2)

    async def list(self) -> Sequence[Change]:
        """Read all, page by page, and replace what the store holds of this kind. Returns what was new in it."""
        began, items, more = time.monotonic(), list[Raw](), ""
        while True:
            query = {**self._query, "limit": str(PAGE)} | ({"continue": more} if more else {})
            try:
                page = await self._client.page(self.resource, self.namespace, query)
            except Gone:
                if not more:
                    raise
                items, more = [], ""
                continue
            except ApiRefusal as error:
                if error.code == FORBIDDEN and self.namespace:
                    self._refused()
                raise
            items.extend(page.get("items", ()))
            more = page["metadata"].get("continue", "")
            if not more:
                break
        self._version = page["metadata"]["resourceVersion"]
        changes = self._store.replace(self.resource, self.namespace, items, int(self._version), began)
        self.heard_at = time.monotonic()
        self._refused_since = None
        self.synced.set()
        return changes

    def _refused(self) -> None:
        self.heard_at = time.monotonic()
        if self._refused_since is None:
            self._refused_since = self.heard_at
        self.synced.clear()

    async def _watch(self) -> None:
        query = {
            **self._query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(random.randint(240, 300)),  # noqa: S311 - spread, not a secret
        }
        watch = self._client.watch(self.resource, self.namespace, query, self._silence)
        async with contextlib.aclosing(watch) as lines:
            async for line in lines:
                self._take(orjson.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        item = event.get("object", {})
        if event.get("type") == "ERROR":
            raise Relist(f"{item.get('code')} {item.get('reason')}: {item.get('message')}")
        self.heard_at = time.monotonic()
        if event["type"] == "DELETED":
            self._store.remove(self.resource, item)
        elif event["type"] in ("ADDED", "MODIFIED"):
            self._store.put(self.resource, item)
        self._version = item["metadata"]["resourceVersion"]
        position = self._store.position(self.resource, self.namespace)
        position.resource_version = max(position.resource_version, version_of(item))


@contextlib.asynccontextmanager
async def synced(informers: Sequence[Informer]) -> AsyncIterator[None]:
    """Run informers as long as the block, which begins when each has its first whole list."""
    tasks = [asyncio.create_task(informer.run()) for informer in informers]
    try:
        for informer in informers:
            await informer.synced.wait()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
