"""What a cluster is asked to be: written by `up` into the state folder, read by the supervisor inside."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from diffusion_local.network import LARGEST_NODE_INDEX

ROUTER_COMPONENT = "router"
ImageCommands = dict[str, list[str] | int]
"""What an image runs, as its OCI configuration has it: `entrypoint` always, `cmd` unless a container has args.

`user` is who runs it where a pod says nothing, and that user's group."""


class ForwardTarget(BaseModel):
    """What one outside address is forwarded to: a port of a Service, or the router of a namespace."""

    model_config = ConfigDict(frozen=True)

    namespace: str
    service: str | None = None
    """None: the first Service of the namespace that is labelled as a router."""
    port: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read NAMESPACE or NAMESPACE/SERVICE:PORT (a port's number or name); ValueError for another form."""
        namespace, slash, place = text.partition("/")
        service, _, port = place.rpartition(":")
        if not namespace or (slash and not (service and port)) or (":" in namespace):
            raise ValueError(f"{text!r} is not of the form NAMESPACE or NAMESPACE/SERVICE:PORT")
        return cls(namespace=namespace, service=service or None, port=port or None)

    def __str__(self) -> str:
        return self.namespace if self.service is None else f"{self.namespace}/{self.service}:{self.port}"


class ClusterOptions(BaseModel):
    """The whole order; counts are nodes at the start, more can be added later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "default"
    nodes: int = Field(default=1, ge=0, le=LARGEST_NODE_INDEX)
    spot: int = Field(default=1, ge=0, le=LARGEST_NODE_INDEX)
    gpus: int = Field(default=0, ge=0)
    """Pretend GPUs on each node."""
    forward: ForwardTarget | None = None
    """None: the first Service labelled as a router, of all namespaces."""
    gang: bool = False
    """Switch on Kubernetes' own gang scheduling (feature gate GenericWorkload)."""
    node_monitor_grace_seconds: int = Field(default=12, ge=3)
    environment: Path = Path(sys.prefix)
    """The Python environment whose programs the cluster's nodes run."""
    code: str = ""
    """The digest of the code that its processes were started from; empty where nobody wrote it down."""
    programs: dict[str, Path]
    images: dict[str, ImageCommands] = {}
    api_port: int = 0
    """The outside port of the API server, and below that of the router; set when the sockets are open."""
    router_port: int = 0

    def differences(self, asked: Self, chosen: Collection[str]) -> list[str]:
        """Return in words where these options are not as `asked`: in the fields `chosen`, and in the environment."""
        mine, theirs = self.model_dump(), asked.model_dump()
        return [
            f"{field} is {_in_words(getattr(self, field))}, not {_in_words(getattr(asked, field))}"
            for field in ("environment", *chosen)
            if mine[field] != theirs[field]
        ]

    def to_json(self) -> str:
        """Return the file content that the supervisor reads."""
        return self.model_dump_json(indent=2) + "\n"


def _in_words(value: object) -> str:
    return "unset" if value is None else str(value)
