"""How the command talks: lines with a spinner while something takes time, errors in one line."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

from diffusion_local.errors import LocalClusterError

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress goes to stderr, so that what a command prints can be piped."""


def say(line: str) -> None:
    """Print one line of progress, as it stands."""
    CONSOLE.print(line, markup=False)


def end_on_signals() -> None:
    """Let SIGTERM and a closed terminal end this process as an exception does, so that it ends what it started.

    A signal that the caller has chosen to ignore (`nohup`) stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))


class ErrorsInOneLine(click.Group):
    """A group whose commands may raise LocalClusterError or OSError, seen by the user as one line and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise  # click ends quietly: whoever read our output has read enough
        except (LocalClusterError, OSError) as error:
            raise click.ClickException(str(error)) from error


@contextmanager
def reporting(what: str, usually: str = "") -> Iterator[Callable[[str], None]]:
    """Show that `what` is going on and how long it usually takes; yields a function that reports a step of it."""
    started = time.monotonic()
    title = f"{what} (usually {usually})" if usually else what
    if not CONSOLE.is_terminal:
        CONSOLE.print(title)
    with CONSOLE.status(title):
        yield lambda line: CONSOLE.print(f"  {time.monotonic() - started:5.1f} s  {line}", markup=False)
