"""What all pods of one node share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diffusion_local.node.addresses import Addresses
from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.attachments import Attachments
from diffusion_local.node.configuration import Manifest, NodeConfiguration
from diffusion_local.node.events import EventWriter
from diffusion_local.node.machine_files import Hosts, Images
from diffusion_local.node.object_watch import ObjectWatch
from diffusion_local.node.service_links import ServiceLinks


@dataclass
class NodeServices:
    """The node's own things, handed to every pod."""

    configuration: NodeConfiguration
    api: ApiClient
    objects: ObjectWatch
    links: ServiceLinks
    addresses: Addresses
    images: Images
    hosts: Hosts
    events: EventWriter
    clock: Callable[[], float]
    allocatable: Mapping[str, str]
    attachments: Attachments = field(default_factory=Attachments)

    def pod_directory(self, pod: Manifest) -> Path:
        """Where a pod's volumes, logs and files lie."""
        return self.configuration.state_directory / "pods" / str(pod["metadata"]["uid"])
