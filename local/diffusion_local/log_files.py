"""Read log files from their end, and on as they grow."""

import time
from collections.abc import Callable
from pathlib import Path

FOLLOW_SECONDS = 0.2


def tail(file: Path, lines: int | None) -> str:
    """Return the last `lines` lines of `file`; all of it for None."""
    text = file.read_text(errors="replace")
    if lines is None:
        return text
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""


def follow_file(file: Path, show: Callable[[str], None]) -> None:
    """Pass what is added to `file` from now on to `show`, until the file is removed (the cluster is down)."""
    with file.open(errors="replace") as stream:
        stream.seek(0, 2)
        while file.exists():
            if text := stream.read():
                show(text)
            else:
                time.sleep(FOLLOW_SECONDS)
