"""Reading back what was just written, by comparing it with the snapshot that it was written from.

The snapshot's digest is known from the writing, so equal bytes prove as much as a second hash, for a fifth of the time.
What cannot be proved like this (a file system without direct reads, a snapshot that is being overwritten by the next)
is left to the digests.
"""

import mmap
import os
from pathlib import Path

import numpy as np

from diffusion_trainer.checkpoint.durable import CHUNK


def is_on_disk(path: Path, content: memoryview) -> bool:
    """True if the file was read past the page cache and holds exactly this content; False proves nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_size != len(content):
            return False
        with mmap.mmap(-1, CHUNK) as buffer:  # Aligned to pages, as direct reads need it.
            starts = range(0, len(content), CHUNK)
            return all(_reads(descriptor, buffer, start, content[start : start + CHUNK]) for start in starts)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _reads(descriptor: int, buffer: mmap.mmap, start: int, wanted: memoryview) -> bool:
    if os.preadv(descriptor, [buffer], start) != len(wanted):
        return False
    kind = np.uint64 if len(wanted) % 8 == 0 else np.uint8
    count = len(wanted) // np.dtype(kind).itemsize
    return bool(np.array_equal(np.frombuffer(buffer, kind, count), np.frombuffer(wanted, kind, count)))
