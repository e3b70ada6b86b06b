"""What a benchmark returns, and how the table in docs/benchmarks.md is written from it."""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

TABLE = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """One row: what was measured, ours, what it is compared with, and both with their unit.

    `baseline` is None where the figure is a count or a size that stands for itself.
    """

    what: str
    ours: float | None
    unit: str
    baseline_name: str = ""
    baseline: float | None = None
    note: str = ""

    @property
    def ratio(self) -> str:
        """Baseline over ours ("3.1x" is three times less than the baseline), or nothing."""
        if not self.ours or not self.baseline:
            return ""
        return f"{self.baseline / self.ours:.2f}x"

    def cells(self) -> tuple[str, ...]:
        """The row's cells, as text."""
        return (self.what, _number(self.ours, self.unit), self._baseline_text(), self.ratio, self.note)

    def _baseline_text(self) -> str:
        if not self.baseline_name:
            return ""
        return f"{self.baseline_name}: {_number(self.baseline, self.unit)}"


def _number(value: float | None, unit: str) -> str:
    return "never (deadline passed)" if value is None else f"{value:.3g} {unit}".strip()


def table_of(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    head = "| What | Ours | Compared with | Ratio | Note |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(figure.cells())} |\n" for figure in figures)


def write_table(page: Path, name: str, figures: list[Figure]) -> None:
    """Replace the table called `name` in the page; raises ValueError when the page has no such table."""
    text = page.read_text()
    block = f"<!-- table: {name} -->\n"
    if block not in text:
        raise ValueError(f"{page} has no block {block.strip()}")
    body = table_of(figures) + f"\nMeasured with `make bench BENCH={name}` on {machine()}.\n"
    replaced = TABLE.sub(lambda m: m[1] + body + m[3] if m["name"] == name else m[0], text)
    page.write_text(replaced)


def machine() -> str:
    """Say what the machine is, in a few words."""
    gibibytes = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores, {gibibytes:.0f} GiB, Python {platform.python_version()}"
