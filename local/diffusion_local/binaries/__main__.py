"""`python -m diffusion_local.binaries`: check that the embedded cluster can run here, and get its programs.

What the machine lacks is said first, before anything is built for it.
"""

import sys

import click

from diffusion_local import launch
from diffusion_local.binaries.find import ensure
from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS
from diffusion_local.errors import LocalClusterError

PROGRAMS = (*CLUSTER_PROGRAMS, "helm")


@click.command(help=__doc__)
def main() -> None:
    """Check the machine and find, download or build the programs; exits with 1 and one sentence when that fails."""
    try:
        launch.check_machine()
        found = ensure(PROGRAMS, click.echo)
    except (LocalClusterError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    for name, path in found.items():
        click.echo(f"{name:<24} {path}")


if __name__ == "__main__":
    main()
