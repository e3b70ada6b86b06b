"""Files that others write and the agent reads again when they change: the image map and the hosts file."""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_local.network import CLUSTER_DOMAIN

LOOK_SECONDS = 0.1
log = logging.getLogger(__name__)
DEFAULT_REGISTRIES = ("docker.io/library/", "docker.io/")


class WatchedFile:
    """A file's text, read again whenever its identity, size or time of change differs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark: tuple[int, int, int] | None = None
        self.text = ""

    def read(self) -> bool:
        """Look at the file; True when the text was read anew. A file that is missing keeps its last text."""
        try:
            found = self.path.stat()
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            if mark == self.mark:
                return False
            self.text = self.path.read_text()
        except OSError:
            return False
        self.mark = mark
        return True


@dataclass(frozen=True)
class Image:
    """What an image runs, as its OCI configuration has it."""

    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    """What follows the entry point where a container has no args of its own."""
    user: int = 0
    """Who runs it where the pod says nothing, and that user's group."""


class Images:
    """The map from image names to what they run."""

    def __init__(self, path: Path) -> None:
        self.file = WatchedFile(path)
        self.known: Mapping[str, Mapping[str, Any]] = {}

    def find(self, image: str) -> Image | None:
        """The image of a name; None for one that is not in the map."""
        if self.file.read():
            try:
                self.known = json.loads(self.file.text)
            except json.JSONDecodeError:
                self.file.mark = None  # half written: look again
        found = self.known.get(plain_name(image), self.known.get(image))
        return None if found is None else Image(**found)


def plain_name(image: str) -> str:
    """The name without the registry that is meant when none is written."""
    for prefix in DEFAULT_REGISTRIES:
        image = image.removeprefix(prefix)
    return image


class Hosts:
    """The /etc/hosts files of this node's pods: the cluster's names, and first the pod's own."""

    def __init__(self, path: Path) -> None:
        self.file = WatchedFile(path)
        self.file.read()
        self.own: dict[Path, tuple[str, str]] = {}
        """By file: the lines that are the pod's own, and the pod's namespace."""

    def add(self, path: Path, own: str, namespace: str) -> None:
        """Write a pod's file and keep it fresh."""
        self.own[path] = own, namespace
        self.write(path)

    def remove(self, path: Path) -> None:
        """The pod is gone."""
        self.own.pop(path, None)

    def write(self, path: Path) -> None:
        """Write in place, since the file is bound into running containers; never shorter than it ends up in between."""
        own, namespace = self.own[path]
        raw = (own + with_short_names(self.file.text, namespace)).encode()
        with path.open("r+b" if path.exists() else "wb") as file:
            file.write(raw)
            file.truncate(len(raw))

    async def keep_fresh(self) -> None:
        """Copy every change of the cluster's file, for ever."""
        stale: set[Path] = set()
        while True:
            if self.file.read():
                stale = set(self.own)
            stale = {path for path in stale & self.own.keys() if not self.written(path)}
            await asyncio.sleep(LOOK_SECONDS)

    def written(self, path: Path) -> bool:
        """Write a pod's file; False when that is not possible now (a full disk): then it is tried again."""
        try:
            self.write(path)
        except OSError as error:
            log.warning("%s stays as it is: %s", path, error)
            return False
        return True


def with_short_names(text: str, namespace: str) -> str:
    """Add the names that are enough within the pod's namespace, as a cluster's search domains allow them."""
    suffix = f".{namespace}.svc"
    lines = []
    for line in text.splitlines():
        shorts = [name.removesuffix(suffix) for name in line.split()[1:] if name.endswith(suffix)]
        lines.append(" ".join([line, *shorts]))
    return "\n".join(lines) + "\n"


def own_lines(ip: str, hostname: str, subdomain: str, namespace: str, aliases: list[dict[str, object]]) -> str:
    """The lines that are the pod's own: localhost, its names, and its hostAliases."""
    full = f"{hostname}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN} {hostname}" if subdomain else hostname
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", f"{ip}\t{full}"]
    for alias in aliases:
        names = alias.get("hostnames")
        lines.append(f"{alias['ip']}\t{' '.join(names) if isinstance(names, list) else ''}")
    return "\n".join(lines) + "\n"
