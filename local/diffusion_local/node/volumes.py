"""The volumes of one pod as folders of this machine, and keeping their content fresh."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from diffusion_local.claims import is_provisioned
from diffusion_local.node.api_client import ApiClient, ApiError
from diffusion_local.node.atomic_directory import write_payload
from diffusion_local.node.attachments import AttachedElsewhere, Attachments, is_exclusive
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.environment import Surroundings
from diffusion_local.node.identity import mapped_ids, volume_group
from diffusion_local.node.mounts import mount, unmount
from diffusion_local.node.payloads import VolumeNotAttached, VolumeNotReady, token_sources, volume_files
from diffusion_local.node.quantity import parse_quantity
from diffusion_local.node.service_account_token import TokenSource
from diffusion_local.node.volume_ownership import FOLDER_BITS, give, give_whole, is_given

EMPTY_DIR_MODE = 0o777


def mount_memory(directory: Path, size: int | None) -> None:
    """A tmpfs in the agent's mount namespace, as an emptyDir with medium Memory is."""
    try:
        mount("emptydir", str(directory), "tmpfs", options="mode=0777" + (f",size={size}" if size else ""))
    except OSError as error:
        raise VolumeNotReady(f"cannot mount a memory volume: {error.strerror}") from error


def host_path(source: Manifest, what: str) -> Path:
    """A folder or file of this machine, made first where its type says so."""
    path = Path(source["path"])
    if source.get("type") == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        raise VolumeNotReady(f"{what}: {path} does not exist")
    return path


@contextlib.contextmanager
def named(volume: Manifest) -> Iterator[None]:
    """Whatever keeps this volume from being ready is told with its name."""
    try:
        yield
    except VolumeNotReady as error:
        error.volume = volume["name"]
        raise


class PodVolumes:
    """Prepares the volumes below `root`, refreshes them, and removes them at the end."""

    def __init__(self, api: ApiClient, attachments: Attachments, pod: Manifest, root: Path) -> None:
        self.api = api
        self.attachments = attachments
        self.pod = pod
        self.root = root
        self.tokens = TokenSource(api, pod)
        self.paths: dict[str, Path] = {}
        self.read_only: set[str] = set()
        self.group = volume_group(pod, mapped_ids())

    async def prepare(self, surroundings: Surroundings) -> None:
        """Fill `paths` for every volume; VolumeNotReady, ApiError or ApiUnavailable when something is missing yet."""
        await self.refresh(surroundings)
        for volume in self.pod["spec"].get("volumes") or []:
            name = volume["name"]
            if name not in self.paths:
                with named(volume):
                    self.paths[name] = await self.folder_of(volume)

    async def refresh(self, surroundings: Surroundings) -> None:
        """Bring the volumes whose content comes from the API up to date, tokens included."""
        volumes = self.pod["spec"].get("volumes") or []
        sources: list[Manifest] = [dict(source) for volume in volumes for source in token_sources(volume)]
        await self.tokens.refresh(sources, time.time())
        for volume in volumes:
            with named(volume):
                files = volume_files(volume, surroundings, self.tokens.text)
            if files is not None:
                directory = self.root / volume["name"]
                write_payload(directory, files, self.group)
                self.paths[volume["name"]] = directory
                self.read_only.add(volume["name"])

    async def folder_of(self, volume: Manifest) -> Path:
        """The folder behind a volume that has no content from the API."""
        if "emptyDir" in volume:
            return self.empty_dir(volume["name"], volume["emptyDir"] or {})
        if claim := volume.get("persistentVolumeClaim"):
            if claim.get("readOnly"):
                self.read_only.add(volume["name"])
            return await self.claimed(claim["claimName"])
        if "ephemeral" in volume:
            return await self.claimed(f"{self.pod['metadata']['name']}-{volume['name']}")
        if source := volume.get("hostPath"):
            return host_path(source, "hostPath")
        kind = next((key for key in volume if key != "name"), "emptyDir")
        raise VolumeNotReady(f"this node does not support volumes of kind {kind}")

    def empty_dir(self, name: str, source: Manifest) -> Path:
        """A fresh folder, in memory when the pod asks for it."""
        directory = self.root / name
        directory.mkdir(parents=True, exist_ok=True)
        if source.get("medium") == "Memory":
            size = source.get("sizeLimit")
            mount_memory(directory, int(parse_quantity(str(size))) if size else None)
        directory.chmod(EMPTY_DIR_MODE)
        if self.group is not None:
            give(directory, self.group, FOLDER_BITS)
        return directory

    async def claimed(self, claim: str) -> Path:
        """The folder of the PersistentVolume that is bound to a claim."""
        namespace = self.pod["metadata"]["namespace"]
        try:
            bound = await self.api.request("GET", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
            volume_name = bound["spec"].get("volumeName")
            if not volume_name or bound.get("status", {}).get("phase") != "Bound":
                raise VolumeNotReady(f'persistentvolumeclaim "{claim}" is not bound yet')
            volume = await self.api.request("GET", f"/api/v1/persistentvolumes/{volume_name}")
        except ApiError as error:
            raise VolumeNotReady(f'persistentvolumeclaim "{claim}": {error.message}') from error
        source = volume["spec"].get("hostPath") or volume["spec"].get("local")
        if source is None:
            raise VolumeNotReady(f"persistentvolume {volume_name} is neither hostPath nor local")
        path = host_path(source, f"persistentvolume {volume_name}")
        if is_provisioned(volume) and is_exclusive(volume):
            self.attach(volume_name, path)
            await asyncio.to_thread(self.hand_over, path)
        return path

    def attach(self, volume_name: str, path: Path) -> None:
        """Take a volume that is for one node at a time; VolumeNotAttached while another one has it."""
        try:
            self.attachments.attach(path, self.pod["metadata"]["uid"])
        except AttachedElsewhere:
            raise VolumeNotAttached(
                f'Multi-Attach error for volume "{volume_name}" Volume is already exclusively attached to one node '
                "and can't be attached to another"
            ) from None

    def hand_over(self, claimed: Path) -> None:
        """Have the pod's group own all of a volume that is for one node; what nodes share stays as it is."""
        policy = (self.pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy")
        if self.group is not None and not (policy == "OnRootMismatch" and is_given(claimed, self.group)):
            give_whole(claimed, self.group)

    def remove(self) -> None:
        """Let go of claims, which lie elsewhere and stay, and drop everything that lies below `root`."""
        self.attachments.release(self.pod["metadata"]["uid"])
        if self.root.exists():
            for directory in self.root.iterdir():
                if directory.is_mount():
                    unmount(str(directory))
            shutil.rmtree(self.root, ignore_errors=True)
