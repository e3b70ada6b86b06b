"""Read log files from their end, and on as they grow."""

import time
from collections.abc import Callable
from pathlib import Path

FOLLOW_SECONDS = 0.2


def read_log(file: Path, lines: int | None, show: Callable[[str], None], *, follow: bool) -> None:
    """Pass the last `lines` lines of `file`, all of it for None, to `show`.

    With `follow` go on with all that is added, until the file is removed (the cluster is down).
    """
    with file.open(errors="replace") as stream:
        show(_last(stream.read(), lines))
        there = follow
        while there:
            there = file.exists()  # asked before reading: what was written before it went is shown
            if text := stream.read():
                show(text)
            elif there:
                time.sleep(FOLLOW_SECONDS)


def _last(text: str, lines: int | None) -> str:
    if lines is None:
        return text
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines else ""
