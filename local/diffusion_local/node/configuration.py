"""What the node agent is told when it starts."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

Manifest = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON has it."""


@dataclass(frozen=True)
class NodeConfiguration:
    """The JSON file behind `--config`; keys in camelCase there."""

    name: str
    address: str
    pod_cidr: str
    server: str
    ca_file: Path
    cert_file: Path
    key_file: Path
    serving_cert_file: Path
    serving_key_file: Path
    state_directory: Path
    images_file: Path
    hosts_file: Path
    control_socket: Path
    kubelet_port: int = 10250
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Manifest, ...] = ()
    capacity: dict[str, str] = field(default_factory=dict)
    cloud_cert_file: Path | None = None
    """Client certificate of the pretend cloud, which may taint and delete the Node; the node's own when absent."""
    cloud_key_file: Path | None = None
    lease_renew_seconds: float = 3.0

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; KeyError names a missing key."""
        data = json.loads(path.read_text())

        def optional_path(key: str) -> Path | None:
            return Path(data[key]) if data.get(key) else None

        return cls(
            name=data["name"],
            address=data["address"],
            pod_cidr=data["podCidr"],
            server=data["server"].rstrip("/"),
            ca_file=Path(data["caFile"]),
            cert_file=Path(data["certFile"]),
            key_file=Path(data["keyFile"]),
            serving_cert_file=Path(data["servingCertFile"]),
            serving_key_file=Path(data["servingKeyFile"]),
            state_directory=Path(data["stateDirectory"]),
            images_file=Path(data["imagesFile"]),
            hosts_file=Path(data["hostsFile"]),
            control_socket=Path(data["controlSocket"]),
            kubelet_port=data.get("kubeletPort", 10250),
            labels=data.get("labels") or {},
            taints=tuple(data.get("taints") or ()),
            capacity={name: str(amount) for name, amount in (data.get("capacity") or {}).items()},
            cloud_cert_file=optional_path("cloudCertFile"),
            cloud_key_file=optional_path("cloudKeyFile"),
            lease_renew_seconds=data.get("leaseRenewSeconds", 3.0),
        )
