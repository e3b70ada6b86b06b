"""ConfigMaps and Secrets that pods of this node use, kept up to date by one watch each while a pod needs it."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.configuration import Manifest

PLURALS = {"configmap": "configmaps", "secret": "secrets"}
FIRST_ANSWER_SECONDS = 5.0
log = logging.getLogger(__name__)


class NotHeardOf(Exception):
    """The API server has not said yet whether an object exists."""


Key = tuple[str, str, str]
"""Kind ("configmap" or "secret"), namespace, name."""


class WatchedObject:
    """One object, its watch, and who wants to hear of changes."""

    def __init__(self) -> None:
        self.manifest: Manifest | None = None
        self.known = asyncio.Event()
        self.listeners: dict[str, Callable[[], None]] = {}
        self.task: asyncio.Task[None] | None = None


class ObjectWatch:
    """All watched objects. The Node authorizer allows exactly those that pods bound to this node refer to."""

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self.objects: dict[Key, WatchedObject] = {}

    async def get(self, namespace: str, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Manifest | None]:
        """The current objects by (kind, name); None for those that do not exist.

        Waits for the first answer; NotHeardOf when there is none (the server is away, or refuses the node this object).
        """
        entries = {(kind, name): self.objects[kind, namespace, name] for kind, name in names}
        for (kind, name), entry in entries.items():
            try:
                async with asyncio.timeout(FIRST_ANSWER_SECONDS):
                    await entry.known.wait()
            except TimeoutError:
                raise NotHeardOf(f'failed to sync {kind} "{name}": timed out waiting for the condition') from None
        return {key: entry.manifest for key, entry in entries.items()}

    def use(self, user: str, namespace: str, names: Iterable[tuple[str, str]], changed: Callable[[], None]) -> None:
        """Begin to watch for `user` (a pod's uid), which is told of every change."""
        for kind, name in names:
            key = (kind, namespace, name)
            entry = self.objects.setdefault(key, WatchedObject())
            entry.listeners[user] = changed
            if entry.task is None:
                entry.task = asyncio.create_task(self.follow(key, entry))

    def release(self, user: str) -> None:
        """`user` is gone; objects that nobody else needs are let go."""
        for key, entry in list(self.objects.items()):
            entry.listeners.pop(user, None)
            if not entry.listeners:
                if entry.task is not None:
                    entry.task.cancel()
                del self.objects[key]

    async def follow(self, key: Key, entry: WatchedObject) -> None:
        """Keep one object up to date."""
        kind, namespace, name = key
        path = f"/api/v1/namespaces/{namespace}/{PLURALS[kind]}"
        async for change in self.api.follow(path, f"metadata.name={name}"):
            before = entry.manifest
            entry.manifest = change.items[0] if change.items and change.kind != "Gone" else None
            first = not entry.known.is_set()
            entry.known.set()
            if first or entry.manifest != before:
                for listener in list(entry.listeners.values()):
                    listener()
