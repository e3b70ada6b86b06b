"""How the story is told: one line for each thing that happened, with the seconds since the beginning."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn


class Narration:
    """Writes `[ 12.3 s] what happened` lines, and shows bars and spinners between them where the terminal can."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._started

    def tell(self, sentence: str) -> None:
        """Print one sentence with its time; in rich's markup, so `escape` what is not ours."""
        self.console.print(f"[bold cyan]\\[{self.seconds:6.1f} s][/] {sentence}")

    def explain(self, text: str) -> None:
        """Print an aside without a time, indented, as it stands."""
        self.console.print(f"           [dim]{escape(text)}[/]")

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Show a spinner while the block runs."""
        if not self.console.is_terminal:
            self.explain(f"{what} ...")
            yield
            return
        with self.console.status(f"{what} ..."):
            yield

    @contextmanager
    def bar(self, total: int) -> Iterator["StepBar"]:
        """Show a progress bar over optimizer steps while the block runs; lines may be told meanwhile."""
        columns = (TextColumn("           {task.description:<10}"), BarColumn(40), TextColumn("{task.fields[words]}"))
        with Progress(*columns, console=self.console, transient=True, refresh_per_second=4) as progress:
            yield StepBar(progress, progress.add_task("training", total=total, words=""), self)


class StepBar:
    """A bar over optimizer steps; where there is no terminal it prints a line at every tenth instead."""

    def __init__(self, progress: Progress, task: TaskID, narration: Narration) -> None:
        self._progress, self._task, self._narration = progress, task, narration
        self._told = -1

    def show(self, step: int, total: int, words: str) -> None:
        """Move the bar to `step` of `total` with a few words at its end."""
        self._progress.update(self._task, completed=step, total=total, words=words)
        tenth = 10 * step // max(total, 1)
        if not self._narration.console.is_terminal and tenth > self._told:
            self._told = tenth
            self._narration.explain(f"training  {step:5d}/{total} steps  {words}")
