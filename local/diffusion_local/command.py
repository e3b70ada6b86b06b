"""The command `diffusion-local`: a Kubernetes cluster of processes on this machine, without containers."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from diffusion_local import launch
from diffusion_local.binaries.find import ensure
from diffusion_local.bring_up import bring_up
from diffusion_local.cluster import Cluster
from diffusion_local.cluster_lock import locked
from diffusion_local.cluster_name import cluster_option, default_cluster_option, meant
from diffusion_local.errors import LocalClusterError
from diffusion_local.images import DISTRIBUTION, add_image
from diffusion_local.log_files import read_log
from diffusion_local.node_command import node
from diffusion_local.options import ForwardTarget
from diffusion_local.own_command import own_command
from diffusion_local.removal import remove_tree
from diffusion_local.state import StateFolder
from diffusion_local.terminal import ErrorsInOneLine, end_on_signals, say


class RawArguments(click.Command):
    """A command that passes on every word as it stands, `--`, `--help` and `--name` too."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Take all words for the one parameter `args`."""
        context.params["args"] = tuple(args)
        return []


@click.group(cls=ErrorsInOneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=DISTRIBUTION)
@default_cluster_option
def main(cluster_name: str) -> None:
    """Run a real Kubernetes control plane whose nodes run pods as processes of this machine.

    For development and tests, never for production: pods are not isolated from you.
    """


main.add_command(node)


@main.command()
@click.option("--nodes", type=click.IntRange(0, 100), default=1, show_default=True, help="On-demand nodes.")
@click.option("--spot", type=click.IntRange(0, 100), default=1, show_default=True, help="Spot nodes.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="Pretend GPUs on each node.")
@click.option(
    "--forward",
    metavar="NAMESPACE[/SERVICE:PORT]",
    help="What is at the forwarded address: a Service, or a namespace's router [the first router of all namespaces].",
)
@click.option("--gang", is_flag=True, help="Switch on Kubernetes' own gang scheduling (GenericWorkload).")
@click.option("--foreground", is_flag=True, help="Stay, and end the cluster with Ctrl-C or with this process.")
@cluster_option
@click.pass_context
def up(context: click.Context, /, foreground: bool, cluster_name: str, forward: str | None, **counts: Any) -> None:
    """Start a cluster and wait until its nodes are ready; join the one that runs, if it is as asked."""
    end_on_signals()
    wanted = {**counts, "forward": _forward(forward)}
    chosen = [field for field in wanted if context.get_parameter_source(field) is not ParameterSource.DEFAULT]
    cluster = bring_up(cluster_name, wanted, chosen, owned=foreground)
    _show_access(cluster)
    if foreground:
        _stay(cluster)


@main.command()
@click.option("--all", "every", is_flag=True, help="Every cluster that was started from this Python environment.")
@cluster_option
def down(every: bool, cluster_name: str) -> None:
    """End every process of the cluster and remove its files, volumes included."""
    if every:
        _end_all()
    else:
        click.echo(_end(StateFolder.of(cluster_name)))


def _end_all() -> None:
    """End each cluster of this environment; LocalClusterError names those that run and may be of it too."""
    folders = list(StateFolder.all())
    unclaimed = [folder for folder in folders if launch.environment(folder) is None and launch.running(folder)]
    ours = [folder for folder in folders if launch.environment(folder) == Path(sys.prefix)]
    for folder in ours:
        click.echo(_end(folder))
    if not ours:
        click.echo("no cluster of this environment was up")
    if unclaimed:
        remedies = "; ".join(f"{folder.root}: `{own_command(folder.name)} down` ends it" for folder in unclaimed)
        raise LocalClusterError(f"clusters run whose files do not say which environment they are of: {remedies}")


def _end(folder: StateFolder) -> str:
    """End a cluster and say what there was to end."""
    with locked(folder, say):
        was_up = launch.end(folder)
        had_files = folder.root.exists()
        remove_tree(folder.root)
    if was_up:
        return f"the cluster {folder.name!r} is down"
    remains = "; the remains of an earlier one are removed" if had_files else ""
    return f"no cluster {folder.name!r} was up{remains}"


@main.command()
@cluster_option
def status(cluster_name: str) -> None:
    """Show what runs and where it can be reached."""
    cluster = Cluster.find(cluster_name)
    answer = cluster.order("status")
    parts = {**answer["components"], **answer["nodes"]}
    width = max(map(len, parts))
    click.echo(f"{'part':{width}}  state")
    for name, running in parts.items():
        click.echo(f"{name:{width}}  {'running' if running else 'stopped'}")
    _show_access(cluster)


@main.command()
@click.option("--content", is_flag=True, help="Print the file itself in place of its path.")
@cluster_option
def kubeconfig(content: bool, cluster_name: str) -> None:
    """Print the path of the administrator's kubeconfig: export KUBECONFIG=$(diffusion-local kubeconfig)."""
    path = Cluster.find(cluster_name).kubeconfig
    click.echo(path.read_text() if content else path, nl=not content)


@main.command()
@click.argument("what", metavar="COMPONENT|NODE|POD")
@click.option("-f", "--follow", is_flag=True, help="Go on printing as lines come.")
@click.option("--tail", "lines", type=click.IntRange(0), help="Only the last lines.")
@click.option("-n", "--namespace", help="The pod's namespace.")
@click.option("-c", "--container", help="The pod's container.")
@click.option("-p", "--previous", is_flag=True, help="The container's last run before this one.")
@cluster_option
def logs(
    what: str,
    follow: bool,
    lines: int | None,
    namespace: str | None,
    container: str | None,
    previous: bool,
    cluster_name: str,
) -> None:
    """Print the log of a component (etcd, kube-apiserver, ..., supervisor), a node or a pod.

    Those of components and nodes can be read until `down`, also when the cluster did not start.
    """
    file = StateFolder.of(cluster_name).logs / f"{what}.log"
    if file.exists():
        read_log(file, lines, lambda text: click.echo(text, nl=False), follow=follow)
        return
    cluster = Cluster.find(cluster_name)
    args = ["logs", what]
    args += ["-f"] * follow + ["-p"] * previous
    for flag, value in (("--tail", lines), ("-n", namespace), ("-c", container)):
        args += [] if value is None else [flag, str(value)]
    _replace_by(cluster, cluster.options.programs["kubectl"], args)


@main.command(cls=RawArguments)
@click.pass_context
def kubectl(context: click.Context, args: tuple[str, ...]) -> None:
    """Run kubectl on the cluster, with our own plugin (`kubectl diffusion`) on its path."""
    cluster = Cluster.find(meant(context))
    _replace_by(cluster, cluster.options.programs["kubectl"], args)


@main.command(cls=RawArguments)
@click.pass_context
def helm(context: click.Context, args: tuple[str, ...]) -> None:
    """Run Helm on the cluster; it is built at the first use when this machine has none."""
    cluster = Cluster.find(meant(context))
    _replace_by(cluster, ensure(["helm"], say)["helm"], args)


@main.group(cls=ErrorsInOneLine)
def apiserver() -> None:
    """Begin and end an outage of the API server."""


@apiserver.command("stop")
@cluster_option
def apiserver_stop(cluster_name: str) -> None:
    """End the API server; pods run on."""
    Cluster.find(cluster_name).stop_apiserver()
    click.echo("the API server is stopped")


@apiserver.command("start")
@cluster_option
def apiserver_start(cluster_name: str) -> None:
    """Start the API server again and wait until it is ready."""
    Cluster.find(cluster_name).start_apiserver()
    click.echo("the API server is ready")


@main.command("import")
@click.argument("assignment", metavar="NAME=COMMAND")
@cluster_option
def import_image(assignment: str, cluster_name: str) -> None:
    """Let the image NAME stand for COMMAND, from the next pod start on."""
    name, argv = add_image(Cluster.find(cluster_name).folder.images, assignment)
    click.echo(f"image {name} runs {' '.join(argv)}")


def _show_access(cluster: Cluster) -> None:
    click.echo(f"kubeconfig  {cluster.kubeconfig}")
    click.echo(f"API server  {cluster.server}")
    click.echo(f"router      {cluster.router}")


def _stay(cluster: Cluster) -> None:
    """Wait for the end of the cluster, or end it with Ctrl-C."""
    say("Ctrl-C ends the cluster")
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the end that was announced, so it is no failure
            cluster.wait()
    finally:
        cluster.stop()
    say(f"the cluster {cluster.folder.name!r} is down")


def _replace_by(cluster: Cluster, program: Path, args: tuple[str, ...] | list[str]) -> None:
    """Become `program`, so that signals and the terminal are its own."""
    os.execve(program, [program.name, *args], cluster.environment())  # noqa: S606


def _forward(text: str | None) -> ForwardTarget | None:
    try:
        return ForwardTarget.parse(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--forward") from error
