"""The configuration of a node agent in tests: real names and addresses, files that are not there."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from diffusion_local.node.configuration import NodeConfiguration

FILES = [field.name for field in fields(NodeConfiguration) if field.name.endswith("_file")]


def node_configuration(folder: Path, **different: Any) -> NodeConfiguration:
    """A node that keeps everything below `folder`; `different` fields are as given."""
    told: dict[str, Any] = {
        "name": "node-1",
        "labels": {},
        "address": "10.244.1.1",
        "pod_cidr": "10.244.1.0/24",
        "server": "",
        "state_directory": folder,
        "control_socket": folder / "socket",
        "capacity": {},
        "kubelet_port": 10250,
        "kubelet_version": "v1.37.2",
        "lease_renew_seconds": 3.0,
        **dict.fromkeys(FILES, folder / "none"),
    }
    return NodeConfiguration(**told | different)
