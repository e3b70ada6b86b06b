"""`make demo`: a dataset becomes a model on two workers, loses a spot node on the way, and becomes pictures."""

import sys
from pathlib import Path

import click
from rich.console import Console

from diffusion_local.demo.cluster_commands import CommandFailed
from diffusion_local.demo.narration import Narration
from diffusion_local.demo.quickstart import Quickstart
from diffusion_local.errors import LocalClusterError


@click.command(help=__doc__)
@click.option("--keep/--stop", default=True, help="Leave the cluster up afterwards (default), or stop it.")
@click.option("--name", default="demo", show_default=True, help="Name of the embedded cluster.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the pictures.",
)
def main(keep: bool, name: str, output: Path) -> None:
    """Tell the story; exits with 1 and one sentence when a chapter fails, and with 130 on Ctrl-C."""
    narration = Narration()
    quickstart = Quickstart(narration=narration, cluster_name=name, output=output.absolute())
    try:
        quickstart.play()
    except (CommandFailed, LocalClusterError, RuntimeError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {error}")
        narration.explain(
            f"The cluster is still up; look around with: diffusion-local --help, or stop it: {stop(name)}"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        narration.explain(f"Interrupted. `make demo` goes on from here; to stop the cluster: {stop(name)}")
        sys.exit(130)
    if keep:
        quickstart.say_what_next(stop(name))
    else:
        quickstart.stop()


def stop(name: str) -> str:
    """Return the command that stops the demo's cluster."""
    return f".venv/bin/diffusion-local down --name {name}"


if __name__ == "__main__":
    main()
