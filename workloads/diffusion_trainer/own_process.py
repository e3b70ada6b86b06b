"""What a process asks the kernel about itself: to end with its parent, and what it holds open."""

import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel send SIGKILL to this process when its parent ends. Not inherited by further forks."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # It had ended before the kernel was asked.


def open_descriptors() -> list[int]:
    """The file descriptors that this process holds, and one more: that of the listing itself, closed by now."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
