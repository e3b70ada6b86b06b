"""One log file for each run of a container, in the format of the CRI: `TIME stdout F TEXT`."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from diffusion_local.node.moments import parse_moment, rfc3339_micro

LONGEST_LINE = 16384
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048


class LogWriter:
    """Turns the bytes that a container writes into stamped lines of a file."""

    def __init__(self, path: Path) -> None:
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

    def close(self) -> None:
        """Write what is left; a last line without an end is marked as such."""
        if self.rest:
            stamp = rfc3339_micro(time.time()).encode()
            self.file.write(stamp + b" stdout P " + self.rest + b"\n")
        self.file.close()


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
