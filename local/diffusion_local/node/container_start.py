"""From a container's spec to a started process; every way in which that fails has the kubelet's reason."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_process import ContainerProcess
from diffusion_local.node.environment import (
    ConfigurationMissing,
    Surroundings,
    container_environment,
    referenced_objects,
)
from diffusion_local.node.identity import home_of, identity, mapped_ids, root_refused
from diffusion_local.node.launch_plan import (
    Bind,
    MountRefused,
    base_environment,
    command_line,
    hostname_of,
    launch_spec,
    volume_binds,
)
from diffusion_local.node.machine_files import Image, Images
from diffusion_local.node.object_watch import NotHeardOf
from diffusion_local.node.pod_network import PodNetwork
from diffusion_local.node.services import NodeServices
from diffusion_local.node.volumes import PodVolumes

TERMINATION_FILE = "/dev/termination-log"
HOSTS_FILE = "/etc/hosts"
PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
IMAGE_NAME = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{PATH_PART}(?:/{PATH_PART})*(?::\w[\w.-]{{0,127}})?(?:@[a-z0-9]+:[0-9a-f]{{32,}})?",
    re.ASCII,
)


class NotStartable(Exception):
    """A container that stays waiting, with the reason that its status shows."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass
class PodPlace:
    """Where one pod lives on this node."""

    directory: Path
    ip: str
    volumes: PodVolumes
    network: PodNetwork | None = None
    """None: the node's own."""

    @property
    def hosts_file(self) -> Path:
        """Its /etc/hosts."""
        return self.directory / "etc-hosts"

    def log_path(self, container: str, run: int) -> Path:
        """The log of one run of a container."""
        return self.directory / "logs" / container / f"{run}.log"

    def termination_file(self, container: str) -> Path:
        """What the container sees as its terminationMessagePath."""
        return self.directory / "containers" / container / "termination-log"


def image_of(images: Images, container: Manifest) -> Image:
    """What the container's image runs; NotStartable with the reason why the node does not have it."""
    image = container["image"]
    found = images.find(image)
    if found is not None:
        return found
    if not IMAGE_NAME.fullmatch(image):
        raise NotStartable("InvalidImageName", f'couldn\'t parse image name "{image}": invalid reference format')
    if container.get("imagePullPolicy") == "Never":
        raise NotStartable("ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never')
    message = (
        f'failed to pull image "{image}": not found in this node\'s image map (diffusion-local import NAME=COMMAND)'
    )
    raise NotStartable("ErrImagePull", message)


async def environment_of(services: NodeServices, pod: Manifest, container: Manifest, place: PodPlace) -> dict[str, str]:
    """The variables that the pod gives the container; CreateContainerConfigError when a reference leads nowhere."""
    address = services.configuration.address
    try:
        objects = await services.objects.get(pod["metadata"]["namespace"], referenced_objects(container))
    except NotHeardOf as error:
        raise NotStartable("CreateContainerConfigError", str(error)) from error
    surroundings = Surroundings(pod, place.ip, address, services.allocatable, objects)
    try:
        return container_environment(container, services.links.environment(pod), surroundings)
    except (ConfigurationMissing, ValueError) as error:
        raise NotStartable("CreateContainerConfigError", str(error)) from error


def container_binds(container: Manifest, place: PodPlace, variables: Mapping[str, str]) -> list[Bind]:
    """All that is mounted: the container's volumes, its termination message, and /etc/hosts unless it has its own."""
    try:
        binds = volume_binds(container, place.volumes.paths, place.volumes.read_only, variables)
    except (KeyError, MountRefused) as error:
        raise NotStartable("CreateContainerConfigError", f"volumeMounts: {error}") from error
    if not any(bind.target == HOSTS_FILE for bind in binds):
        binds.append(Bind(place.hosts_file, HOSTS_FILE))
    message = container.get("terminationMessagePath") or TERMINATION_FILE
    return [*binds, Bind(place.termination_file(container["name"]), message)]


def empty_message_file(path: Path) -> None:
    """Have a file for the termination message of one run, which whoever the container is may write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    path.chmod(0o666)


async def start_container(
    services: NodeServices, pod: Manifest, container: Manifest, place: PodPlace, run: int
) -> ContainerProcess:
    """Start one container. Raises NotStartable (it waits) or CommandNotStarted (it ended with 128)."""
    image = image_of(services.images, container)
    if refused := root_refused(pod, container, image):
        raise NotStartable("CreateContainerConfigError", refused)
    variables = await environment_of(services, pod, container, place)
    binds = container_binds(container, place, variables)
    argv = command_line(container, image, variables)
    if not argv:
        raise NotStartable("CreateContainerError", "no command specified")
    environment = base_environment(hostname_of(pod), home_of(pod, container, image)) | variables
    message = place.termination_file(container["name"])
    root = message.with_name("root")
    whom = identity(pod, container, image, mapped_ids())
    spec = launch_spec(pod, container, root, binds, argv, environment, whom)
    try:
        empty_message_file(message)
        root.mkdir(exist_ok=True)
        process = ContainerProcess(spec, message.parent, place.log_path(container["name"], run), place.network)
        await process.start()
    except OSError as error:
        raise NotStartable("CreateContainerError", str(error)) from error
    return process
