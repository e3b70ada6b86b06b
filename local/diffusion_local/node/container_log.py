"""One log file for each run of a container, in the format of the CRI: `TIME stdout F TEXT`.

As with a kubelet, a file that has grown to 10 MiB gives way to a new one, and only that is shown from then on.
"""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from diffusion_local.node.moments import parse_moment, rfc3339_micro

LONGEST_LINE = 16384
LARGEST_FILE = 10 * 1024 * 1024
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048


class LogWriter:
    """Turns the bytes that a container writes into stamped lines of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("ab", buffering=0)
        self.rest = b""

    def feed(self, chunk: bytes) -> None:
        """Write what is complete; a line without an end waits, but for very long ones, which are split."""
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        stamp = rfc3339_micro(time.time()).encode()
        parts = [stamp + b" stdout F " + line + b"\n" for line in whole]
        while len(self.rest) > LONGEST_LINE:
            parts.append(stamp + b" stdout P " + self.rest[:LONGEST_LINE] + b"\n")
            self.rest = self.rest[LONGEST_LINE:]
        if parts:
            self.file.write(b"".join(parts))
            if self.file.tell() >= LARGEST_FILE:
                self.rotate()

    def rotate(self) -> None:
        """Begin a new file; the full one stays beside it until the next, for who is still reading it."""
        fresh, full = self.path.with_suffix(".new"), rotated(self.path)
        file = fresh.open("ab", buffering=0)
        full.unlink(missing_ok=True)
        os.link(self.path, full)
        fresh.replace(self.path)
        self.file.close()
        self.file = file

    def close(self) -> None:
        """Write what is left; a last line without an end is marked as such."""
        if self.rest:
            stamp = rfc3339_micro(time.time()).encode()
            self.file.write(stamp + b" stdout P " + self.rest + b"\n")
        self.file.close()


class LogReader:
    """Reads a log to its end, again and again, also where the file has given way to a new one meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("rb")
        self.rest = b""

    def lines(self) -> list[bytes]:
        """The complete lines that have come since the last call."""
        full = self.is_full()  # asked before reading: such a file grows no more
        raw = self.rest + self.file.read()
        if full:
            self.file.close()
            self.file = self.path.open("rb")
            raw += self.file.read()
        *whole, self.rest = raw.split(b"\n")
        return whole

    def is_full(self) -> bool:
        """Whether another file is at the log's place."""
        try:
            return os.fstat(self.file.fileno()).st_ino != self.path.stat().st_ino
        except FileNotFoundError:  # the log was removed
            return False

    def close(self) -> None:
        """Let go of the file."""
        self.file.close()


def rotated(path: Path) -> Path:
    """Where the full file is that was at `path` before."""
    return path.with_suffix(".full")


def remove_log(path: Path) -> None:
    """Remove the log of a run, whole."""
    for file in (path, rotated(path)):
        file.unlink(missing_ok=True)


def shown(line: bytes, timestamps: bool) -> bytes:
    """A stored line as `kubectl logs` shows it."""
    stamp, _, rest = line.partition(b" ")
    _, _, rest = rest.partition(b" ")
    flag, _, text = rest.partition(b" ")
    end = b"" if flag == b"P" else b"\n"
    return (stamp + b" " if timestamps else b"") + text + end


def since(lines: Iterable[bytes], moment: float | None) -> Iterator[bytes]:
    """Only lines stamped at `moment` (seconds since the epoch) or later."""
    for line in lines:
        if moment is None or parse_moment(line.partition(b" ")[0].decode()) >= moment:
            yield line


def whole_lines(raw: bytes) -> list[bytes]:
    """The complete lines of a log file."""
    return raw.split(b"\n")[:-1]


def log_tail(path: Path) -> str:
    """The end of a log for `terminationMessagePolicy: FallbackToLogsOnError`."""
    if not path.exists():
        return ""
    lines = whole_lines(path.read_bytes())[-FALLBACK_LINES:]
    return b"".join(shown(line, timestamps=False) for line in lines)[-FALLBACK_BYTES:].decode(errors="replace")
