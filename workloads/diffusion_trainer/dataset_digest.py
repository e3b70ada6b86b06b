r"""The digest of a dataset, so that a run can say what it was trained on.

A file: the sha256 of its bytes. A folder: the sha256 of the text that `sha256sum` prints for its files, sorted by
path in byte order, which a shell computes as

    cd FOLDER && find -L . -name '.?*' -prune -o -type f -printf '%P\n' | LC_ALL=C sort |
        xargs -r -d '\n' sha256sum | sha256sum

Links are followed. What is hidden does not count: desktops, editors, NFS and the kubelet put such files beside the
data, the kubelet (for a ConfigMap or a Secret) under another name in every pod. Nor do empty folders, sockets, pipes
and devices. File names must not contain a line break or a backslash, since `sha256sum` writes those in another way.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_CHUNK = 1 << 20


def dataset_digest(path: Path) -> str:
    """`sha256:<hex>` of a file or a folder; raises OSError, or ValueError for a file name that has no plain line."""
    if path.is_file():
        return f"sha256:{_file_hex(path)}"
    lines = hashlib.sha256()
    for name in relative_files(path):
        if "\n" in name or "\\" in name:
            raise ValueError(f"{name!r}: file names must not contain line breaks or backslashes")
        lines.update(f"{_file_hex(path / name)}  {name}\n".encode(errors="surrogateescape"))
    return f"sha256:{lines.hexdigest()}"


def relative_files(folder: Path) -> list[str]:
    """All files below a folder that count, relative to it, in byte order.

    Raises OSError where one cannot be read, for a link that leads nowhere as well.
    """
    if not folder.is_dir():
        raise FileNotFoundError(2, "No such file or directory", str(folder))
    return sorted((os.path.relpath(path, folder) for path in _regular_files(folder)), key=os.fsencode)


def _regular_files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root) / name
            if not name.startswith(".") and stat.S_ISREG(path.stat().st_mode):
                yield path


def _raise(error: OSError) -> None:
    """A folder that cannot be listed is an error: without its files the digest would be another dataset's."""
    raise error


def _file_hex(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
