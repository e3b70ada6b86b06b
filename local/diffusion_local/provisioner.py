"""Volumes at work: a folder and a PersistentVolume for each claim of a class of ours, removed with the claim."""

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from diffusion_local import claims
from diffusion_local.claims import Object
from diffusion_local.node.api_client import CONFLICT, NOT_FOUND, ApiClient, ApiError, ApiUnavailable
from diffusion_local.node.attachments import lock_file
from diffusion_local.node.back_off import delay_before_retry
from diffusion_local.removal import remove_tree
from diffusion_local.store import Store

LOG = logging.getLogger(__name__)
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


class Provisioner:
    """Follows claims and volumes; folders lie in `folder`."""

    def __init__(self, client: ApiClient, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._changed = asyncio.Event()
        self._claims = Store(client, "/api/v1/persistentvolumeclaims", self._changed.set)
        self._volumes = Store(client, "/api/v1/persistentvolumes", self._changed.set)
        self._refused: set[str] = set()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._claims.run())
            tasks.create_task(self._volumes.run())
            tasks.create_task(self._apply_changes())

    async def _apply_changes(self) -> None:
        attempts = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_before_retry(attempts) if attempts else None):
                    await self._changed.wait()
            self._changed.clear()
            attempts = 0 if await self._apply() else attempts + 1

    async def _apply(self) -> bool:
        """Provide and discard what is due; False when some of it is to be tried again, which holds no other up."""
        due: list[tuple[Object, Callable[[Object], Awaitable[None]]]] = [
            (claim, self._provide)
            for claim in self._claims.objects.values()
            if claims.wants_volume(claim) and ("", claims.volume_name(claim)) not in self._volumes.objects
        ]
        due += [(volume, self._discard) for volume in self._volumes.objects.values() if claims.is_discarded(volume)]
        done = [await self._tried(act, item) for item, act in due]
        return all(done)

    async def _tried(self, act: Callable[[Object], Awaitable[None]], item: Object) -> bool:
        try:
            await act(item)
        except (ApiError, ApiUnavailable, OSError) as error:
            LOG.warning("volumes: %s: %s; trying again", item["metadata"]["name"], error)
            return False
        return True

    async def _provide(self, claim: Object) -> None:
        uid = claim["metadata"]["uid"]
        if reason := claims.refusal(claim):
            if uid not in self._refused:
                self._refused.add(uid)
                moment = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                path = f"/api/v1/namespaces/{claim['metadata']['namespace']}/events"
                await self._create(path, claims.refusal_event(claim, reason, moment))
            return
        storage_class = await self._client.request("GET", f"{CLASSES}/{claims.class_of(claim)}")
        folder = self._folder / claims.volume_name(claim)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        await self._create("/api/v1/persistentvolumes", claims.volume_for(claim, storage_class, str(folder)))

    async def _create(self, path: str, item: Object) -> None:
        try:
            await self._client.request("POST", path, item)
        except ApiError as error:
            if error.status != CONFLICT:
                raise

    async def _discard(self, volume: Object) -> None:
        name = volume["metadata"]["name"]
        await asyncio.to_thread(remove_tree, self._folder / name)
        lock_file(self._folder / name).unlink(missing_ok=True)
        try:
            await self._client.request("DELETE", f"/api/v1/persistentvolumes/{name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
