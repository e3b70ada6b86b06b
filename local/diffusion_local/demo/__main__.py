"""`make demo`: a dataset becomes a model on two workers, loses a spot node on the way, and becomes pictures."""

import contextlib
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from diffusion_contract.console_scripts import refusal_of_output, standard_output
from diffusion_local import launch
from diffusion_local.cluster_lock import one_at_a_time
from diffusion_local.demo.cluster_commands import CommandFailed
from diffusion_local.demo.narration import Narration
from diffusion_local.demo.quickstart import Quickstart
from diffusion_local.errors import LocalClusterError
from diffusion_local.own_command import own_command
from diffusion_local.state import StateFolder
from diffusion_local.terminal import end_on_signals

INTERRUPTED = 130


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
    """Tell the story; exits with 1 and one sentence when a chapter fails, and with 130 on Ctrl-C.

    With --stop the cluster goes with this process, however the story ends. A second demo on the same cluster waits for
    the first: they would take each other's objects and nodes away.
    """
    end_on_signals()
    narration = Narration()
    quickstart = Quickstart(narration=narration, cluster_name=name, output=output.absolute(), owned=not keep)
    with contextlib.ExitStack() as turn, contextlib.ExitStack() as at_the_end:
        if not keep:
            at_the_end.callback(quickstart.stop)
        code = play(quickstart, turn)
    if keep and code:
        narration.explain(what_is_left(name))
    elif keep:
        quickstart.say_what_next(own_command(name))
    sys.exit(code)


def play(quickstart: Quickstart, turn: contextlib.ExitStack) -> int:
    """Play the story and return the exit code; what goes wrong is told in one sentence.

    `turn` keeps the place of the only demo on this cluster until it is closed.
    """
    waiting = f"another demo uses the cluster {quickstart.cluster_name!r}; waiting for its end"
    try:
        lock = StateFolder.of(quickstart.cluster_name).demo_lock
        turn.enter_context(one_at_a_time(lock, lambda: quickstart.narration.explain(waiting)))
        quickstart.play()
    except (CommandFailed, LocalClusterError, OSError) as error:
        if isinstance(error, OSError) and refusal_of_output():
            raise  # `standard_output` says it, and there is nobody whom more could be told
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "red"), str(error)))
        return 1
    except (KeyboardInterrupt, SystemExit) as interruption:
        quickstart.narration.explain("Interrupted. `make demo` takes up what stands and tells the story again.")
        code = interruption.code if isinstance(interruption, SystemExit) else INTERRUPTED
        return code if isinstance(code, int) else 1
    return 0


def what_is_left(name: str) -> str:
    """Say what of the demo's cluster is there after a story that did not come to its end."""
    folder = StateFolder.of(name)
    if launch.running(folder) is not None:
        return f"The cluster is up; look around with `{own_command(name)} kubectl get pods -A`, {how_to_stop(folder)}."
    return f"No cluster is up. Its logs: {folder.logs}" if folder.logs.is_dir() else "No cluster is up."


def how_to_stop(folder: StateFolder) -> str:
    """Say which command ends the cluster: `make down` leaves those of other checkouts alone."""
    if launch.environment(folder) == Path(sys.prefix):
        return "stop it with `make down`"
    return f"stop it, another checkout's, with `{own_command(folder.name)} down`"


if __name__ == "__main__":
    with standard_output():
        main()
