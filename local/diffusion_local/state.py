"""Where an embedded cluster keeps its files: never in the checkout, one folder a cluster, removed by `down`."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_local.errors import LocalClusterError, make_folder
from diffusion_local.user_folders import user_folder

HOME_VARIABLE = "DIFFUSION_LOCAL_HOME"
NAME_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
LONGEST_SOCKET_PATH = 107
"""Bytes that Linux allows in the path of a Unix socket (sun_path less its final zero)."""


def state_home() -> Path:
    """Return the folder that holds one folder a cluster: $DIFFUSION_LOCAL_HOME, else the user's XDG state folder."""
    if chosen := os.environ.get(HOME_VARIABLE):
        return Path(chosen).absolute()
    return user_folder("XDG_STATE_HOME", ".local/state") / "diffusion-local"


@dataclass(frozen=True)
class StateFolder:
    """The files of one cluster, by name; nothing here touches the disk but `all` and `create`."""

    root: Path

    @classmethod
    def of(cls, name: str) -> "StateFolder":
        """Return the folder of the cluster called `name`; LocalClusterError for a name that no cluster can have."""
        if not NAME_PATTERN.fullmatch(name):
            raise LocalClusterError(f"{name!r} cannot name a cluster: use small letters, digits and dashes, at most 40")
        return cls(state_home() / name)

    @classmethod
    def all(cls) -> Iterator["StateFolder"]:
        """Yield the folder of each cluster of this user, whether it runs or not."""
        if state_home().is_dir():
            yield from (cls(path) for path in sorted(state_home().iterdir()) if NAME_PATTERN.fullmatch(path.name))

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.root.name

    @property
    def lock(self) -> Path:
        """What whoever starts or ends the cluster locks; beside the folder, since that comes and goes."""
        return self.root.with_name(f".{self.root.name}.lock")

    @property
    def demo_lock(self) -> Path:
        """What a demo on the cluster holds from its beginning to its end."""
        return self.root.with_name(f".{self.root.name}.demo.lock")

    @property
    def config(self) -> Path:
        """What the supervisor was told to run."""
        return self.root / "cluster.json"

    @property
    def supervisor(self) -> Path:
        """Process id and start time of the process that holds the cluster's namespaces."""
        return self.root / "supervisor.json"

    @property
    def control_socket(self) -> Path:
        """Where the supervisor takes orders."""
        return self.root / "control.sock"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's access from outside."""
        return self.root / "kubeconfig"

    @property
    def images(self) -> Path:
        """The image map: image name to command line."""
        return self.root / "images.json"

    @property
    def hosts(self) -> Path:
        """Names of all Services, in the form of /etc/hosts."""
        return self.root / "hosts"

    @property
    def certificates(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """One log file a component and node."""
        return self.root / "logs"

    @property
    def volumes(self) -> Path:
        """One folder a PersistentVolume."""
        return self.root / "volumes"

    @property
    def etcd(self) -> Path:
        """The data of etcd."""
        return self.root / "etcd"

    def node(self, name: str) -> Path:
        """Return the folder of a node agent."""
        return self.root / "nodes" / name

    def node_socket(self, name: str) -> Path:
        """Return where a node agent takes orders."""
        return self.root / "nodes" / f"{name}.sock"

    def check_socket(self, node: str) -> None:
        """Raise LocalClusterError where the path of a node's socket is longer than Linux takes."""
        if len(os.fsencode(self.node_socket(node))) > LONGEST_SOCKET_PATH:
            raise LocalClusterError(
                f"{self.node_socket(node)} is too long a path for a Unix socket: "
                f"set {HOME_VARIABLE} to a shorter folder, or give the node a shorter name"
            )

    def create(self) -> None:
        """Make the folders, readable by this user only; refuses a path that no Unix socket fits in."""
        self.check_socket("spot-100")
        for folder in (self.root, self.certificates, self.logs, self.volumes, self.etcd):
            make_folder(folder, HOME_VARIABLE, mode=0o700)


def write_atomically(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replace `path` in one step, so that no reader ever sees half of it."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, in one step."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")
