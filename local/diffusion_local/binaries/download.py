"""Official programs by download, only where their hash is pinned here.

A hash that is fetched from beside the file proves nothing about the file, so a program without a row in `PINNED` is
never downloaded; it is built, and go.sum pins its sources. Adding a row is all that a new pin takes: take the SHA-512
from the publisher's signed release notes, never from the download itself. The rows for the Kubernetes programs of
`recipe.KUBERNETES_VERSION` are missing until somebody has verified them that way.
"""

import hashlib
import http.client
import io
import socket
import tarfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffusion_local.architecture import architecture
from diffusion_local.errors import LocalClusterError
from diffusion_local.state import write_atomically

Report = Callable[[str], None]
RESOLVE_SECONDS = 1.0
"""A host that does not resolve in this time counts as absent: without a network nobody waits for a time-out."""
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Download:
    """A file at `url` with its `sha512` (hex); `member` is the path in it when it is a tar archive."""

    url: str
    sha512: str
    member: str = ""


ENVTEST = "https://github.com/kubernetes-sigs/controller-tools/releases/download/envtest-v1.36.2/envtest-v1.36.2-linux"
PINNED: dict[tuple[str, str], Download] = {
    ("etcd", "amd64"): Download(
        f"{ENVTEST}-amd64.tar.gz",
        "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dc"
        "f30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",
        "controller-tools/envtest/etcd",
    ),
    ("etcd", "arm64"): Download(
        f"{ENVTEST}-arm64.tar.gz",
        "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae2818"
        "1afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",
        "controller-tools/envtest/etcd",
    ),
}
"""What may be downloaded, by program and processor."""


def fetch(program: str, folder: Path, report: Report) -> bool:
    """Download `program` into `folder`; False when it is not pinned or its host cannot be reached.

    Raises LocalClusterError when the file that came has another hash than the pinned one.
    """
    source = PINNED.get((program, architecture()))
    if source is None or not _resolves(urllib.parse.urlsplit(source.url).hostname or ""):
        return False
    report(f"downloading {program} from {source.url}")
    try:
        with urllib.request.urlopen(source.url, timeout=CONNECT_SECONDS) as answer:  # noqa: S310  (our own table)
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:  # a cut-off answer is of the second kind
        report(f"the download of {program} failed ({error!r}); building it")
        return False
    if hashlib.sha512(content).hexdigest() != source.sha512:
        raise LocalClusterError(f"{source.url} does not have the pinned SHA-512: refused; nothing was installed")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / program, _member(content, source.member) if source.member else content, mode=0o755)
    return True


def _member(archive: bytes, path: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(path)
        if file is None:
            raise LocalClusterError(f"the downloaded archive holds no file {path}")
        return file.read()


def _resolves(host: str) -> bool:
    """A resolver without a network may hang for many seconds, so it is asked in a thread that nobody waits for."""
    answers: list[object] = []

    def resolve() -> None:
        try:
            answers.extend(socket.getaddrinfo(host, 443))
        except OSError:
            return

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(RESOLVE_SECONDS)
    return bool(answers)
