"""What a pod has around its containers: an address, a hosts file, and volumes that stay fresh."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable

from diffusion_local.node.addresses import NoAddressLeft
from diffusion_local.node.api_client import ApiError, ApiUnavailable
from diffusion_local.node.back_off import delay_before_retry
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_start import PodPlace
from diffusion_local.node.environment import Surroundings, referenced_objects
from diffusion_local.node.launch_plan import hostname_of
from diffusion_local.node.machine_files import own_lines
from diffusion_local.node.object_watch import NotHeardOf
from diffusion_local.node.payloads import VolumeNotAttached, VolumeNotReady, referenced_by_volume
from diffusion_local.node.pod_network import NetworkNotReady, create_pod_network
from diffusion_local.node.pod_record import init_containers, main_containers
from diffusion_local.node.services import NodeServices
from diffusion_local.node.volumes import PodVolumes

SHORTEST_REFRESH, LONGEST_REFRESH = 2.0, 60.0
TOLD_FROM_ATTEMPT = 2
"""The first attempt often comes before the authorizer has heard that the pod is on this node."""
log = logging.getLogger(__name__)


class SandboxNotReady(Exception):
    """The pod has no address or no place on the disk yet."""


NOT_READY = (SandboxNotReady, NetworkNotReady, VolumeNotReady, NotHeardOf, ApiError, ApiUnavailable, OSError)


def trouble(error: Exception) -> tuple[str, str]:
    """The reason and message of the event for a sandbox that is not ready, as a kubelet writes them."""
    if isinstance(error, (SandboxNotReady, NetworkNotReady)):
        return "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}"
    if isinstance(error, VolumeNotAttached):
        return "FailedAttachVolume", str(error)
    volume = f' for volume "{error.volume}" ' if isinstance(error, VolumeNotReady) else ""
    return "FailedMount", f"MountVolume.SetUp failed{volume}: {error}"


class PodSandbox:
    """One pod's surroundings on this node. `changed` is called whenever an object that the pod refers to changes."""

    def __init__(self, services: NodeServices, pod: Manifest, changed: Callable[[], None]) -> None:
        self.services = services
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.namespace: str = pod["metadata"]["namespace"]
        self.changed = changed
        self.stale = asyncio.Event()
        self.holds_address = False
        self.refresher: asyncio.Task[None] | None = None
        directory = services.pod_directory(pod)
        volumes = PodVolumes(services.api, services.attachments, pod, directory / "volumes")
        self.place = PodPlace(directory, "", volumes)

    def arrive(self) -> None:
        """Begin to follow what the pod refers to, take an address and write the hosts file; may be repeated.

        Raises SandboxNotReady when no address is left or the disk is full.
        """
        spec = self.pod["spec"]
        containers = [*init_containers(self.pod), *main_containers(self.pod)]
        names = {key for container in containers for key in referenced_objects(container)} | self.shown_objects()
        self.services.objects.use(self.uid, self.namespace, names, self.touch)
        hostname, subdomain = hostname_of(self.pod), spec.get("subdomain") or ""
        try:
            self.take_address()
            self.place.directory.mkdir(parents=True, exist_ok=True)
            own = own_lines(self.place.ip, hostname, subdomain, self.namespace, spec.get("hostAliases") or [])
            self.services.hosts.add(self.place.hosts_file, own, self.namespace)
        except (NoAddressLeft, OSError) as error:
            raise SandboxNotReady(str(error)) from error

    def take_address(self) -> None:
        """An address of the pod's own, or the node's for a pod that shares its network."""
        if self.pod["spec"].get("hostNetwork"):
            self.place.ip = self.services.configuration.address
        elif not self.holds_address:
            self.place.ip = self.services.addresses.take()
            self.holds_address = True

    def update(self, pod: Manifest) -> None:
        """The pod changed in the API; its labels and annotations may be shown in volumes."""
        before, self.pod = self.pod["metadata"], pod
        if any(before.get(field) != pod["metadata"].get(field) for field in ("labels", "annotations")):
            self.touch()

    def touch(self) -> None:
        """Have the volumes brought up to date."""
        self.stale.set()
        self.changed()

    def shown_objects(self) -> set[tuple[str, str]]:
        """The ConfigMaps and Secrets that the pod's volumes show."""
        return {key for volume in self.pod["spec"].get("volumes") or [] for key in referenced_by_volume(volume)}

    async def surroundings(self) -> Surroundings:
        """What the volumes are filled from."""
        objects = await self.services.objects.get(self.namespace, self.shown_objects())
        address = self.services.configuration.address
        return Surroundings(self.pod, self.place.ip, address, self.services.allocatable, objects)

    async def prepare(self) -> None:
        """Have an address, a network and filled volumes, however long that takes, and keep the volumes fresh after."""
        attempts = 0
        while True:
            try:
                self.arrive()
                await self.connect()
                await self.place.volumes.prepare(await self.surroundings())
            except NOT_READY as error:
                attempts += 1
                if attempts >= TOLD_FROM_ATTEMPT:
                    reason, message = trouble(error)
                    self.services.events.tell(self.pod, "Warning", reason, message)
                await self.news(delay_before_retry(attempts))
                continue
            self.refresher = asyncio.create_task(self.refresh())
            return

    async def news(self, seconds: float) -> None:
        """Wait until something that the pod refers to has changed, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stale.wait()
        self.stale.clear()

    async def connect(self) -> None:
        """Give the pod its network, unless it shares the node's."""
        if self.place.network is None and not self.pod["spec"].get("hostNetwork"):
            self.place.network = await create_pod_network(self.place.ip)

    async def refresh(self) -> None:
        """Keep the volumes' content fresh while the pod lives."""
        while True:
            due = self.place.volumes.tokens.next_renewal - self.services.clock()
            await self.news(min(max(due, SHORTEST_REFRESH), LONGEST_REFRESH))
            try:
                await self.place.volumes.refresh(await self.surroundings())
            except NOT_READY as error:
                log.info("volumes of %s stay as they are: %s", self.pod["metadata"]["name"], error)

    def close(self) -> None:
        """Give back what only running containers need: address, network, volumes. Logs stay until `remove`."""
        self.services.objects.release(self.uid)
        self.services.hosts.remove(self.place.hosts_file)
        if self.refresher is not None:
            self.refresher.cancel()
        self.place.volumes.remove()
        if self.place.network is not None:
            self.place.network.close()
            self.place.network = None
        if self.holds_address:
            self.services.addresses.give_back(self.place.ip)
            self.holds_address = False

    def remove(self) -> None:
        """Leave nothing behind on this machine."""
        self.close()
        shutil.rmtree(self.place.directory, ignore_errors=True)
