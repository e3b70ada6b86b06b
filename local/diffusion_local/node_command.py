"""`diffusion-local node ...`: add nodes, and take them away as clouds and accidents do."""

import click

from diffusion_local.cluster import Cluster
from diffusion_local.cluster_name import cluster_option
from diffusion_local.errors import LocalClusterError
from diffusion_local.terminal import ErrorsInOneLine, reporting, say


@click.group(cls=ErrorsInOneLine)
def node() -> None:
    """Add nodes and take them away."""


@node.command()
@click.argument("name", required=False)
@click.option("--spot", is_flag=True, help="A node that may be preempted (karpenter.sh/capacity-type: spot).")
@click.option("--gpus", type=click.IntRange(0), help="Pretend GPUs (default: as `up` was told).")
@cluster_option
def add(name: str | None, spot: bool, gpus: int | None, cluster_name: str) -> None:
    """Start a node and wait until it is ready; NAME is the next free node-N or spot-N when left out."""
    cluster = Cluster.find(cluster_name)
    with reporting("starting a node", "2 s"):
        name = cluster.add_node(name, spot=spot, gpus=gpus)
    click.echo(f"node {name} is ready")


@node.command()
@click.argument("name")
@cluster_option
def cordon(name: str, cluster_name: str) -> None:
    """Take no new pods on node NAME."""
    _kubectl(cluster_name, "cordon", name)


@node.command()
@click.argument("name")
@cluster_option
def uncordon(name: str, cluster_name: str) -> None:
    """Take new pods on node NAME again."""
    _kubectl(cluster_name, "uncordon", name)


@node.command()
@click.argument("name")
@click.option(
    "--notice", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds of warning; 0 is none."
)
@cluster_option
def preempt(name: str, notice: float, cluster_name: str) -> None:
    """Take node NAME away as a cloud does: taint and condition, grace for the pods, then NotReady and deleted."""
    Cluster.find(cluster_name).preempt_node(name, notice, say)
    click.echo(f"node {name} goes in {notice:g} s" if notice else f"node {name} is gone")


@node.command()
@click.argument("name")
@cluster_option
def kill(name: str, cluster_name: str) -> None:
    """End node NAME and all on it by SIGKILL; its Node object stays, as a dead machine's does."""
    Cluster.find(cluster_name).kill_node(name)
    click.echo(f"node {name} is dead")


@node.command()
@click.argument("name")
@cluster_option
def recover(name: str, cluster_name: str) -> None:
    """Start a killed or preempted node NAME again."""
    Cluster.find(cluster_name).recover_node(name)
    click.echo(f"node {name} is ready")


def _kubectl(cluster_name: str, *args: str) -> None:
    done = Cluster.find(cluster_name).kubectl(*args)
    if done.returncode:
        raise LocalClusterError(done.stderr.strip())
    click.echo(done.stdout.strip())
