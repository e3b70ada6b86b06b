"""Which cluster a command means: --name behind the command, else before it, else $DIFFUSION_LOCAL_NAME."""

from collections.abc import Callable
from typing import Any

import click

from diffusion_local.options import ClusterOptions

VARIABLE = "DIFFUSION_LOCAL_NAME"
DEFAULT_NAME: str = ClusterOptions.model_fields["name"].default
PARAMETER = "cluster_name"


def default_cluster_option(group: Callable[..., Any]) -> Callable[..., Any]:
    """Add --name to the whole command; the only place for it before a command whose arguments are another program's."""
    return click.option(
        "--name", PARAMETER, default=DEFAULT_NAME, envvar=VARIABLE, show_default=True, help="The cluster that is meant."
    )(group)


def cluster_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --name to one command."""
    return click.option(
        "--name",
        PARAMETER,
        callback=lambda context, _, value: meant(context) if value is None else value,
        help=f"The cluster that is meant [default: ${VARIABLE}, else {DEFAULT_NAME}].",
    )(command)


def meant(context: click.Context) -> str:
    """Return the name that stands before the command, or its default."""
    name: str = context.find_root().params.get(PARAMETER, DEFAULT_NAME)
    return name
