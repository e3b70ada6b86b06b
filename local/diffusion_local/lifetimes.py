"""Who a process is and how long it lives: identities that no clock change touches, and waiting for ends."""

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: it is killed when the thread that started it ends, whatever ends that."""
DEAD_STATES = {"Z", "X"}
STATE_FIELD, START_FIELD = 0, 19
"""Positions in /proc/PID/stat behind the command's name: fields 3 and 22 of proc(5)."""


@dataclass(frozen=True)
class ProcessIdentity:
    """A process for as long as this machine runs: its number, its start in clock ticks since boot, and which boot.

    The start by the wall clock, which psutil gives, is no identity: it moves with every step of that clock.
    """

    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the identity of the process that has the number `pid` now; ProcessLookupError when none has."""
        return cls(pid, int(_stat(pid)[START_FIELD]), _boot())

    def runs(self) -> bool:
        """Whether this very process still runs."""
        try:
            fields = _stat(self.pid)
        except ProcessLookupError:
            return False
        same = int(fields[START_FIELD]) == self.start_ticks and _boot() == self.boot
        return same and fields[STATE_FIELD] not in DEAD_STATES

    def children(self) -> list[int]:
        """Return the numbers of its children; none when it has ended."""
        return children_of(self.pid) if self.runs() else []

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; False when that takes longer than `seconds`."""
        return wait_for_ends(self._open(), seconds)

    def kill_with(self, others: Iterable[int], seconds: float) -> bool:
        """End it by SIGKILL, and wait until it and `others` have ended; False when that takes longer than `seconds`."""
        handles = self._open() + [handle for pid in others for handle in open_handles(pid)]
        if handles and self.runs():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handles[0], signal.SIGKILL)
        return wait_for_ends(handles, seconds)

    def _open(self) -> list[int]:
        """A handle of this process and of no other that got its number meanwhile; none when it has ended."""
        handles = open_handles(self.pid)
        if handles and not self.runs():
            os.close(handles.pop())
        return handles


def open_handles(pid: int) -> list[int]:
    """Return a pidfd of process `pid`, or nothing when there is none."""
    try:
        return [os.pidfd_open(pid)]
    except ProcessLookupError:
        return []


def wait_for_ends(handles: list[int], seconds: float | None) -> bool:
    """Wait until the processes of all pidfds have ended, and close these; False after `seconds` without an end.

    The first process of a PID namespace ends as its last, so its end is the end of the namespace.
    """
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    waiting = len(handles)
    try:
        while waiting:
            ready = poll.poll(None if seconds is None else seconds * 1000)
            if not ready:
                return False
            for handle, _ in ready:
                poll.unregister(handle)
            waiting -= len(ready)
        return True
    finally:
        for handle in handles:
            os.close(handle)


def children_of(pid: int) -> list[int]:
    """Return the numbers of the children that the main thread of `pid` has; none when it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and nobody has waited for it."""
    try:
        return _stat(pid)[STATE_FIELD] == "Z"
    except ProcessLookupError:
        return False


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
