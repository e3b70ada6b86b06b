"""Volumes at work: a folder and a PersistentVolume for each claim of a class of ours, removed with the claim."""

import asyncio
import datetime as dt
import logging
import shutil
from pathlib import Path

import aiohttp

from diffusion_local import claims
from diffusion_local.api import ApiClient, ApiError, Store
from diffusion_local.claims import Object
from diffusion_local.node.attachments import lock_file

LOG = logging.getLogger(__name__)
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
CONFLICT, NOT_FOUND = 409, 404
RETRY_SECONDS = 1.0


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
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._apply()
            except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
                LOG.warning("volumes: %s; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._changed.set()

    async def _apply(self) -> None:
        for claim in list(self._claims.objects.values()):
            if claims.wants_volume(claim) and ("", claims.volume_name(claim)) not in self._volumes.objects:
                await self._provide(claim)
        for volume in list(self._volumes.objects.values()):
            if claims.is_discarded(volume):
                await self._discard(volume)

    async def _provide(self, claim: Object) -> None:
        uid = claim["metadata"]["uid"]
        if reason := claims.refusal(claim):
            if uid not in self._refused:
                self._refused.add(uid)
                moment = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                path = f"/api/v1/namespaces/{claim['metadata']['namespace']}/events"
                await self._create(path, claims.refusal_event(claim, reason, moment))
            return
        storage_class = await self._client.request("GET", f"{CLASSES}/{claim['spec']['storageClassName']}")
        folder = self._folder / claims.volume_name(claim)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        await self._create("/api/v1/persistentvolumes", claims.volume_for(claim, storage_class, str(folder)))

    async def _create(self, path: str, item: Object) -> None:
        try:
            await self._client.request("POST", path, item)
        except ApiError as error:
            if error.code != CONFLICT:
                raise

    async def _discard(self, volume: Object) -> None:
        name = volume["metadata"]["name"]
        await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)
        lock_file(self._folder / name).unlink(missing_ok=True)
        try:
            await self._client.request("DELETE", f"/api/v1/persistentvolumes/{name}")
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
