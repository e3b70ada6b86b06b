"""A process that does not outlive its test, however that ends."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Start `command` with the options of Popen; what still runs of it when the block ends is killed.

    Popen as a context manager only waits: after a failed assertion it would wait for as long as the process likes.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()
