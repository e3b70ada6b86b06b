r"""The digest of a dataset, so that a run can say what it was trained on.

A file: the sha256 of its bytes. A folder: the sha256 of the text that `sha256sum` prints for its files, sorted by
path in byte order, which a shell computes as

    cd FOLDER && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum

Hidden files count, links are followed, empty folders do not count. File names must not contain a line break or a
backslash, since `sha256sum` writes those in another way.
"""

import hashlib
import os
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
    """All files below a folder, relative to it, in byte order; raises OSError if it cannot be read."""
    if not folder.is_dir():
        raise FileNotFoundError(2, "No such file or directory", str(folder))
    found = [
        os.path.relpath(Path(root) / name, folder)
        for root, _folders, names in os.walk(folder, onerror=_raise, followlinks=True)
        for name in names
    ]
    return sorted(found, key=os.fsencode)


def _raise(error: OSError) -> None:
    """A folder that cannot be listed is an error: without its files the digest would be another dataset's."""
    raise error


def _file_hex(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
