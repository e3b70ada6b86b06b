"""Whose fault it is that data cannot be read: the data's, which ends the run, or the volume's, which is tried again.

A refusal ends the run, so it is for data that is missing or malformed only. Where a volume fails (EIO, ESTALE and the
like) the OSError goes up: one worker's glitch is a crash that is tried again.
"""

import errno
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from diffusion_trainer.refusal import ConfigurationRefused

URI = "spec.dataset.uri"
_LASTING = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)
"""Errors that trying again does not mend: of a path, and of a place outside a file to which its content points."""
_Read = TypeVar("_Read")
MALFORMED = (
    ValueError, EOFError, KeyError, TypeError, AttributeError, SyntaxError, NotImplementedError, RuntimeError,
    MemoryError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error,
)  # fmt: skip
"""What numpy, zipfile and Pillow raise for content that is torn or is something else; MemoryError for a shape in a
header that no machine could hold."""


def read_or_refuse(read: Callable[[Path], _Read], path: Path) -> _Read:
    """What `read` makes of a path. Raises ConfigurationRefused, or an OSError that says something of the volume."""
    try:
        return read(path)
    except (OSError, ValueError) as error:
        raise_if_passing(error)
        why = f"cannot be read: {error}"
        if isinstance(error, FileNotFoundError) and error.filename == str(path):
            why = "does not exist: mount the volume that holds it (spec.workers.template), or correct the path"
        raise ConfigurationRefused(URI, f"{path} {why}") from error


def raise_if_passing(error: BaseException) -> None:
    """Raise an OSError again that says something of the volume and not of the data."""
    if isinstance(error, OSError) and error.errno is not None and error.errno not in _LASTING:
        raise error
