"""`python -m diffusion_local.binaries`: make every program of the embedded cluster available, and print where it is."""

import sys

import click

from diffusion_local.binaries.find import ensure
from diffusion_local.errors import LocalClusterError

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "helm")


@click.command(help=__doc__)
def main() -> None:
    """Find, download or build the programs; exits with 1 and one sentence when that cannot be done here."""
    try:
        found = ensure(PROGRAMS, click.echo)
    except LocalClusterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    for name, path in found.items():
        click.echo(f"{name:<24} {path}")


if __name__ == "__main__":
    main()
