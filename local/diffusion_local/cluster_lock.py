"""One `up` or `down` of a cluster at a time, and one demo on it."""

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
    """Hold the lock of the cluster in `folder`; says so when somebody else holds it, and waits."""
    waiting = f"another command starts or ends the cluster {folder.name!r}; waiting for it"
    with one_at_a_time(folder.lock, lambda: say(waiting)):
        yield


@contextmanager
def one_at_a_time(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the file `lock`; when somebody else holds it, call `waiting` and wait.

    The file goes with the lock, so that nothing stays behind.
    """
    handle = _acquire(lock, waiting)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _acquire(lock: Path, waiting: Callable[[], None]) -> int:
    make_folder(lock.parent, HOME_VARIABLE, mode=0o700)
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
        except BaseException:
            os.close(handle)
            raise
        if _still_there(lock, handle):
            return handle
        os.close(handle)


def _still_there(path: Path, handle: int) -> bool:
    """Whether the locked file is the one at `path`: its last holder has removed it, and a third may have made one."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False
