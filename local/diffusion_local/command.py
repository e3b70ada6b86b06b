"""The command `diffusion-local`: a Kubernetes cluster of processes on this machine, without containers."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.table import Table

from diffusion_local import launch
from diffusion_local.binaries.find import ensure
from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS
from diffusion_local.cluster import Cluster
from diffusion_local.errors import LocalClusterError
from diffusion_local.images import DISTRIBUTION, add_image, default_images
from diffusion_local.log_files import follow_file, tail
from diffusion_local.node_command import cluster_option, node
from diffusion_local.options import ClusterOptions, ForwardTarget
from diffusion_local.state import StateFolder, state_home
from diffusion_local.terminal import CONSOLE, ErrorsInOneLine, reporting

PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}


@click.group(cls=ErrorsInOneLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=DISTRIBUTION)
def main() -> None:
    """Run a real Kubernetes control plane whose nodes run pods as processes of this machine.

    For development and tests, never for production: pods are not isolated from you.
    """


main.add_command(node)


@main.command()
@click.option("--nodes", type=click.IntRange(0, 100), default=1, show_default=True, help="On-demand nodes.")
@click.option("--spot", type=click.IntRange(0, 100), default=1, show_default=True, help="Spot nodes.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="Pretend GPUs on each node.")
@click.option("--forward", metavar="NAMESPACE/SERVICE:PORT", help="Service at the forwarded address [the router].")
@click.option("--gang", is_flag=True, help="Switch on Kubernetes' own gang scheduling (GenericWorkload).")
@click.option("--foreground", is_flag=True, help="Stay, and end the cluster with Ctrl-C or with this process.")
@cluster_option
def up(nodes: int, spot: int, gpus: int, forward: str | None, gang: bool, foreground: bool, cluster_name: str) -> None:
    """Start a cluster and wait until its nodes are ready."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = StateFolder.of(_checked_name(cluster_name))
    with _locked():
        if launch.running(folder) is not None:
            cluster = Cluster(folder)
            cluster.order("wait")
            CONSOLE.print(f"the cluster {cluster_name!r} is up already; `diffusion-local down` ends it")
        else:
            launch.check_machine()
            with reporting("getting the control plane's programs") as say:
                programs = ensure(CLUSTER_PROGRAMS, say)
            options = ClusterOptions(
                name=cluster_name,
                nodes=nodes,
                spot=spot,
                gpus=gpus,
                gang=gang,
                forward=_forward(forward),
                programs=programs,
                images=default_images(),
            )
            with reporting(f"starting the cluster {cluster_name!r}", "6 to 10 s") as say:
                cluster = Cluster.start(folder, options, owned=foreground, say=say)
    _show_access(cluster)
    if foreground:
        _stay(cluster)


@main.command()
@cluster_option
def down(cluster_name: str) -> None:
    """End every process of the cluster and remove its files, volumes included."""
    folder = StateFolder.of(_checked_name(cluster_name))
    with _locked():
        was_up = launch.end(folder)
        had_files = folder.root.exists()
        launch.remove(folder)
    if was_up:
        click.echo(f"the cluster {cluster_name!r} is down")
    else:
        remains = "; the remains of an earlier one are removed" if had_files else ""
        click.echo(f"no cluster {cluster_name!r} was up{remains}")


@main.command()
@cluster_option
def status(cluster_name: str) -> None:
    """Show what runs and where it can be reached."""
    cluster = Cluster.find(cluster_name)
    answer = cluster.order("status")
    table = Table("part", "state", box=None, pad_edge=False)
    for kind in ("components", "nodes"):
        for name, running in answer[kind].items():
            table.add_row(name, "running" if running else "stopped")
    CONSOLE.print(table)
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
    """Print the log of a component (etcd, kube-apiserver, ..., supervisor), a node or a pod."""
    cluster = Cluster.find(cluster_name)
    file = cluster.folder.logs / f"{what}.log"
    if file.exists():
        click.echo(tail(file, lines), nl=False)
        if follow:
            follow_file(file, lambda text: click.echo(text, nl=False))
        return
    args = ["logs", what]
    args += ["-f"] * follow + ["-p"] * previous
    for flag, value in (("--tail", lines), ("-n", namespace), ("-c", container)):
        args += [] if value is None else [flag, str(value)]
    _replace_by(cluster, cluster.options.programs["kubectl"], args)


@main.command(context_settings=PASS_ON)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@cluster_option
def kubectl(args: tuple[str, ...], cluster_name: str) -> None:
    """Run kubectl on the cluster, with our own plugin (`kubectl diffusion`) on its path."""
    cluster = Cluster.find(cluster_name)
    _replace_by(cluster, cluster.options.programs["kubectl"], args)


@main.command(context_settings=PASS_ON)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@cluster_option
def helm(args: tuple[str, ...], cluster_name: str) -> None:
    """Run Helm on the cluster; it is built at the first use when this machine has none."""
    cluster = Cluster.find(cluster_name)
    _replace_by(cluster, ensure(["helm"], lambda line: CONSOLE.print(line, markup=False))["helm"], args)


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
    CONSOLE.print("Ctrl-C ends the cluster")
    process = launch.running(cluster.folder)
    try:
        if process is not None:
            process.wait()
    finally:
        cluster.stop()


def _replace_by(cluster: Cluster, program: Path, args: tuple[str, ...] | list[str]) -> None:
    """Become `program`, so that signals and the terminal are its own."""
    os.execve(program, [program.name, *args], cluster.environment())  # noqa: S606


def _forward(text: str | None) -> ForwardTarget | None:
    try:
        return ForwardTarget.parse(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--forward") from error


def _checked_name(name: str) -> str:
    if not name.replace("-", "").isalnum() or not name.islower():
        raise LocalClusterError(f"{name!r} cannot name a cluster: use small letters, digits and dashes")
    return name


@contextmanager
def _locked() -> Iterator[None]:
    """Let only one `up` or `down` work at a time; the lock is on the folder, so that no lock file stays behind."""
    state_home().mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(state_home(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
