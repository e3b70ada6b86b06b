"""One `up` or `down` of a cluster at a time."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_local.errors import make_folder
from diffusion_local.state import HOME_VARIABLE, StateFolder


@contextmanager
def locked(folder: StateFolder, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the cluster in `folder`; says so when somebody else holds it, and waits.

    The lock file goes with the lock, so that nothing stays behind.
    """
    handle = _acquire(folder, say)
    try:
        yield
    finally:
        folder.lock.unlink(missing_ok=True)
        os.close(handle)


def _acquire(folder: StateFolder, say: Callable[[str], None]) -> int:
    make_folder(folder.lock.parent, HOME_VARIABLE, mode=0o700)
    while True:
        handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another command starts or ends the cluster {folder.name!r}; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
        except BaseException:
            os.close(handle)
            raise
        if _still_there(folder.lock, handle):
            return handle
        os.close(handle)


def _still_there(path: Path, handle: int) -> bool:
    """Whether the locked file is the one at `path`: its last holder has removed it, and a third may have made one."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False
