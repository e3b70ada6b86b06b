"""What the node agent is told when it starts."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

Manifest = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON has it."""


@dataclass(frozen=True)
class NodeConfiguration:
    """The JSON file behind `--config`, which the supervisor writes and the agent reads."""

    name: str
    labels: dict[str, str]
    address: str
    pod_cidr: str
    server: str
    ca_file: Path
    cert_file: Path
    key_file: Path
    serving_cert_file: Path
    serving_key_file: Path
    cloud_cert_file: Path
    """Client certificate of the pretend cloud, which may taint and delete the Node."""
    cloud_key_file: Path
    state_directory: Path
    images_file: Path
    hosts_file: Path
    control_socket: Path
    capacity: dict[str, str]
    kubelet_port: int
    kubelet_version: str
    lease_renew_seconds: float

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; KeyError names a missing key."""
        data = json.loads(path.read_text())
        told = {field.name: data[field.name] for field in fields(cls)}
        paths = {field.name: Path(told[field.name]) for field in fields(cls) if field.type is Path}
        return cls(**told | paths)

    def to_json(self) -> str:
        """Return the content of the file."""
        return json.dumps(vars(self), default=str, indent=2) + "\n"
