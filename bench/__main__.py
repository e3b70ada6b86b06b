"""Run the benchmarks: `python -m bench [NAME ...]`, and write their tables into docs/benchmarks.md."""

import importlib
from pathlib import Path

import click
from rich.console import Console

from bench.figure import write_table

NAMES = ("recovery", "checkpoint-cost", "cluster-start", "operator-writes", "operator-scale", "serving-batching")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--dry-run", is_flag=True, help="Print the figures and leave docs/benchmarks.md alone.")
def main(names: tuple[str, ...], dry_run: bool) -> None:
    """Measure what was named, or everything."""
    console = Console()
    for name in names or NAMES:
        module = importlib.import_module(f"bench.{name.replace('-', '_')}")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        console.print(f"[bold]{name}[/]: {summary}")
        figures = module.measure(console)
        for figure in figures:
            console.print("  " + " | ".join(cell for cell in figure.cells() if cell))
        if not dry_run:
            write_table(PAGE, name, figures)


if __name__ == "__main__":
    main()
