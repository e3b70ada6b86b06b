"""Files that are there after a power cut: content first, then name, each with fsync.

Large ones go past the page cache where the file system allows (O_DIRECT): the kernel then copies nothing and has
nothing to write back later, which on a busy machine is time that training would pay for.
"""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_registry.durable_folders import sync_folder

CHUNK = 4 << 20
"""Bytes that are hashed and then written, or read and compared, at a time: they stay in the processor's cache."""
_BLOCK = 4096
"""What memory, offsets and sizes of direct reads and writes are multiples of."""


@contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """The descriptor of a new file that nobody reads yet; its content is durable at the end."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes | memoryview) -> None:
    """Write a file that nobody reads yet, and make its content durable."""
    with _new_file(path) as descriptor:
        _write_all(descriptor, memoryview(content))


def write_hashed(path: Path, content: bytes | memoryview) -> str:
    """Write a large file as `write_new` does, past the page cache where that is possible; its `sha256:<hex>`."""
    digest = hashlib.sha256()
    whole = memoryview(content)
    with _new_file(path) as descriptor:
        _set_direct(descriptor, on=True)
        for start in range(0, len(whole), CHUNK):
            piece = whole[start : start + CHUNK]
            digest.update(piece)
            if len(piece) % _BLOCK:  # The last one.
                _set_direct(descriptor, on=False)
            _write_all(descriptor, piece)
    return f"sha256:{digest.hexdigest()}"


def _write_all(descriptor: int, rest: memoryview) -> None:
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            if error.errno != errno.EINVAL or not _set_direct(descriptor, on=False):
                raise


def _set_direct(descriptor: int, on: bool) -> bool:
    """Write past the page cache from now on, or through it. True if this has changed anything."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    wanted = flags | os.O_DIRECT if on else flags & ~os.O_DIRECT
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, wanted)
    except OSError:
        return False  # Not on this file system (tmpfs, some network ones).
    return wanted != flags


def write_durably(path: Path, content: bytes, temporary: Path) -> None:
    """Replace a file in one step, by way of `temporary`: readers see the old or the new content, also after a crash."""
    try:
        write_new(temporary, content)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
