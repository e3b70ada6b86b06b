"""What a cluster is asked to be: written by `up` into the state folder, read by the supervisor inside."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from diffusion_local.network import LARGEST_NODE_INDEX

ROUTER_COMPONENT = "router"


class ForwardTarget(BaseModel):
    """A Service port that one outside address is forwarded to."""

    model_config = ConfigDict(frozen=True)

    namespace: str
    service: str
    port: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read NAMESPACE/SERVICE:PORT (a port's number or name); ValueError for another form."""
        place, separator, port = text.rpartition(":")
        namespace, slash, service = place.partition("/")
        if not (separator and slash and namespace and service and port):
            raise ValueError(f"{text!r} is not of the form NAMESPACE/SERVICE:PORT")
        return cls(namespace=namespace, service=service, port=port)


class ClusterOptions(BaseModel):
    """The whole order; counts are nodes at the start, more can be added later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "default"
    nodes: int = Field(default=1, ge=0, le=LARGEST_NODE_INDEX)
    spot: int = Field(default=1, ge=0, le=LARGEST_NODE_INDEX)
    gpus: int = Field(default=0, ge=0)
    """Pretend GPUs on each node."""
    forward: ForwardTarget | None = None
    """None: the first Service labelled as a router."""
    gang: bool = False
    """Switch on Kubernetes' own gang scheduling (feature gate GenericWorkload)."""
    node_monitor_grace_seconds: int = Field(default=12, ge=3)
    programs: dict[str, Path]
    images: dict[str, list[str]] = {}
    api_port: int = 0
    """The outside port of the API server, and below that of the router; set when the sockets are open."""
    router_port: int = 0

    def to_json(self) -> str:
        """Return the file content that the supervisor reads."""
        return self.model_dump_json(indent=2) + "\n"
