"""The configuration of a node agent in tests: real names and addresses, files that are not there."""

from pathlib import Path
from typing import Any

from diffusion_local.node.configuration import NodeConfiguration

FILES = ("ca_file", "cert_file", "key_file", "serving_cert_file", "serving_key_file", "images_file", "hosts_file")


def node_configuration(folder: Path, **fields: Any) -> NodeConfiguration:
    """A node that keeps everything below `folder`."""
    files: dict[str, Any] = dict.fromkeys(FILES, folder / "none")
    return NodeConfiguration(
        name="node-1",
        address="10.244.1.1",
        pod_cidr="10.244.1.0/24",
        server="",
        state_directory=folder,
        control_socket=folder / "socket",
        **files,
        **fields,
    )
