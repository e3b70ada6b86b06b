"""What a process asks the kernel about itself and its children: who ends with whom, is stopped, or holds what open."""

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1
AGENT_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that tell a pod to end, often its whole process group: only the agent acts on them."""


def die_with_parent() -> None:
    """Have the kernel send SIGKILL to this process when its parent ends. Not inherited by further forks."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # It had ended before the kernel was asked.


def leave_signals_to_the_agent() -> None:
    """Ignore what tells the pod to end, and drop the mask that this process may have been born with."""
    for number in AGENT_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AGENT_SIGNALS)


def open_descriptors() -> list[int]:
    """The file descriptors that this process holds, and one more: that of the listing itself, closed by now."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal, or is held by a debugger; False for one that is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")  # The name before it may hold anything.


def ended_children() -> Iterator[tuple[int, int]]:
    """Collect the children that have ended: pid and exit code, which is minus the signal for one that was killed."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)
