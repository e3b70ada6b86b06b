"""Kubeconfig files that carry their certificates inside, so that one file can be copied anywhere."""

import base64
from pathlib import Path

import yaml

from diffusion_local.certificates import KeyPair
from diffusion_local.state import write_atomically


def write_kubeconfig(path: Path, *, name: str, server: str, authority: Path, client: KeyPair) -> Path:
    """Write the access of `client` to the API server at `server` (a URL) under the context `name`."""
    write_atomically(
        path,
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": name, "cluster": {"server": server, "certificate-authority-data": _inline(authority)}}
                ],
                "users": [
                    {
                        "name": name,
                        "user": {
                            "client-certificate-data": _inline(client.certificate),
                            "client-key-data": _inline(client.key),
                        },
                    }
                ],
                "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
                "current-context": name,
            }
        ),
    )
    return path


def _inline(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
