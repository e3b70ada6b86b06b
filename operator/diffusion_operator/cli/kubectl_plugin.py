"""`kubectl diffusion`: what a run or a service is doing, in a form for people.

Exit codes: 0 shown, 1 the API server cannot be reached or says no, 2 bad input or nothing by that name.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType

from diffusion_operator.cli.cluster_reader import ClusterReader, NotThere, Unreadable
from diffusion_operator.cli.kind_words import Unclear, kind_and_name
from diffusion_operator.cli.service_view import service_view
from diffusion_operator.cli.tables import list_table
from diffusion_operator.cli.training_view import training_view

RULE_WIDTH = 60
PIPE_WIDTH = 10_000
F = TypeVar("F", bound=Callable[..., Any])


def _where(function: F) -> F:
    """Add the options that every command has."""
    for option in (
        click.option("--context", help="Context of the kubeconfig.  [default: its current one]"),
        click.option("--kubeconfig", type=click.Path(dir_okay=False), help="[default: $KUBECONFIG or ~/.kube/config]"),
        click.option("-n", "--namespace", help="[default: the context's]"),
    ):
        function = option(function)
    return function


def _show(*parts: RenderableType) -> None:
    """Write to standard output; what objects say is shown as it stands.

    In a pipe each row is one line, as kubectl's are, and no line is filled up with blanks.
    """
    if sys.stdout.isatty():
        Console(markup=False, emoji=False).print(*parts, sep="\n")
        return
    page = Console(markup=False, emoji=False, width=PIPE_WIDTH)
    with page.capture() as printed:
        page.print(*parts, sep="\n")
    for line in printed.get().removesuffix("\n").split("\n"):
        click.echo(line.rstrip())


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("diffusion-operator"), prog_name="kubectl-diffusion")
def main() -> None:
    """Look at diffusion trainings and services: `kubectl diffusion describe NAME`, `kubectl diffusion list`."""


@main.command()
@_where
@click.option("-A", "--all-namespaces", is_flag=True, help="List those of all namespaces.")
def list(namespace: str | None, kubeconfig: str | None, context: str | None, all_namespaces: bool) -> None:  # noqa: A001
    """List trainings and services."""
    with _errors():
        reader = ClusterReader(kubeconfig, context, namespace)
        found = reader.list(None if all_namespaces else reader.namespace)
    if not found:
        click.echo("No diffusion trainings or services here.", err=True)
        return
    _show(list_table(found, show_namespace=all_namespaces))


@main.command()
@_where
@click.argument("words", metavar="[KIND] NAME", nargs=-1, required=True)
@click.option(
    "--kind",
    type=click.Choice(["training", "service"]),
    help="Which one, where a training and a service have the same name.  [default: both]",
)
def describe(
    words: Sequence[str], namespace: str | None, kubeconfig: str | None, context: str | None, kind: str | None
) -> None:
    """Show how NAME is doing: phase, progress, workers, checkpoints, preemptions, conditions and events.

    KIND is training (dt) or service (dsv), and KIND/NAME will do as well.
    """
    with _errors():
        chosen, name = kind_and_name(words, kind)
        reader = ClusterReader(kubeconfig, context, namespace)
        for number, item in enumerate(reader.named(name, chosen)):
            view = training_view if item["kind"] == "DiffusionTraining" else service_view
            rule = ["─" * RULE_WIDTH] if number else []
            _show(*rule, view(item, reader.pods(item), reader.events(item)))


@contextmanager
def _errors() -> Iterator[None]:
    """Turn failures into one line and the exit code that the module's docstring promises."""
    try:
        yield
    except (NotThere, Unclear) as error:
        raise click.UsageError(str(error)) from error
    except Unreadable as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
