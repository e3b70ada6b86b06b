"""The embedded cluster as Python sees it: what the command line and the tests use."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from diffusion_local import control, launch
from diffusion_local.certificates import Authority, KeyPair
from diffusion_local.cluster_lock import locked
from diffusion_local.control import Say
from diffusion_local.errors import LocalClusterError
from diffusion_local.kubeconfig import write_kubeconfig
from diffusion_local.options import ClusterOptions
from diffusion_local.own_command import own_command
from diffusion_local.removal import remove_tree
from diffusion_local.state import StateFolder

SOCKET_SECONDS = 120.0
ORDER_SECONDS = 200.0
POLL_SECONDS = 0.02


def silent(_: str) -> None:
    """Report nothing."""


def _runs_other_code(folder: StateFolder, options: ClusterOptions) -> bool:
    """Whether the cluster is of the environment of `options`, and was started from other code than is there now."""
    return launch.environment(folder) == options.environment and launch.code(folder) != options.code


@dataclass(frozen=True)
class ClientAccess:
    """A client's certificate, its key, and a kubeconfig that uses them."""

    files: KeyPair
    kubeconfig: Path


class Cluster:
    """A running embedded cluster in `folder`; LocalClusterError when its files cannot be read."""

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self._holder = launch.recorded(folder)
        try:
            self.options = ClusterOptions.model_validate(json.loads(folder.config.read_text()))
        except (OSError, ValueError) as error:
            raise LocalClusterError(
                f"the cluster {folder.name!r} cannot be read ({error}): "
                f"`{own_command(folder.name)} down` ends it and removes its files"
            ) from error

    @classmethod
    def start(cls, folder: StateFolder, options: ClusterOptions, *, owned: bool = False, say: Say = silent) -> Self:
        """Start a new cluster and wait until it is up; what an earlier one left in `folder` is removed first.

        `owned`: it dies with the calling thread, whatever ends that. Raises LocalClusterError when it does not come up.
        """
        launch.check_machine()
        with locked(folder, say):
            return cls._start(folder, options, owned, say)

    @classmethod
    def join_or_start(
        cls,
        folder: StateFolder,
        options: ClusterOptions,
        chosen: Collection[str],
        *,
        owned: bool,
        renewed: bool = False,
        say: Say = silent,
    ) -> tuple[Self, bool]:
        """Return the cluster in `folder` once it is up, and whether it had to be started.

        One that runs must be as asked: in its environment, and in those fields of `options` that `chosen` names.
        With `renewed` one of the same environment that runs other code than `options` is ended and started anew.
        Raises LocalClusterError when it is not, when its API server is stopped, or when it does not come up.
        """
        launch.check_machine()
        with locked(folder, say):
            if launch.running(folder) is not None:
                if renewed and _runs_other_code(folder, options):
                    say("the code has changed since it was started: ending it, and starting it anew")
                elif cluster := cls._join(folder, options, chosen, say):
                    return cluster, False
            return cls._start(folder, options, owned, say), True

    @classmethod
    def _start(cls, folder: StateFolder, options: ClusterOptions, owned: bool, say: Say) -> Self:
        launch.end(folder)
        remove_tree(folder.root)
        folder.create()
        try:
            launch.start(folder, options, owned=owned)
            cluster = cls(folder)
            cluster._await_socket()
            cluster.order("wait", say=say)
        except BaseException:
            launch.end(folder)
            raise
        return cluster

    @classmethod
    def _join(cls, folder: StateFolder, options: ClusterOptions, chosen: Collection[str], say: Say) -> Self | None:
        """The running cluster once it is up; None when its start has failed, so that it is of no use to anybody."""
        cluster = cls(folder)
        if differences := cluster.options.differences(options, chosen):
            raise LocalClusterError(
                f"the cluster {folder.name!r} is up already, but not as asked ({'; '.join(differences)}): "
                f"end it first with `{own_command(folder.name)} down`, or choose another --name"
            )
        try:
            cluster._await_socket()
            cluster.order("wait", say=say)
        except LocalClusterError as error:
            if not cluster._start_failed():
                raise
            say(f"an earlier start of it failed ({error}); starting it anew")
            return None
        if not cluster.order("status")["components"]["kube-apiserver"]:
            raise LocalClusterError(
                f"the cluster {folder.name!r} is up, but its API server is stopped: "
                f"`{own_command(folder.name)} apiserver start` ends the outage"
            )
        return cluster

    @classmethod
    def find(cls, name: str) -> Self:
        """Return the running cluster called `name`; LocalClusterError when there is none."""
        folder = StateFolder.of(name)
        if launch.running(folder) is None:
            raise LocalClusterError(f"no cluster called {name!r} is up: start one with `{own_command(name)} up`")
        return cls(folder)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for use from outside."""
        return self.folder.kubeconfig

    @property
    def server(self) -> str:
        """The API server's URL from outside."""
        return f"https://127.0.0.1:{self.options.api_port}"

    @property
    def router(self) -> str:
        """The URL that is forwarded to the router (or to the Service that was asked for)."""
        return f"http://127.0.0.1:{self.options.router_port}"

    @property
    def authority(self) -> Path:
        """The certificate of the cluster's authority."""
        return self.folder.certificates / "ca.crt"

    def order(self, op: str, say: Say = silent, **details: Any) -> dict[str, Any]:
        """Give the supervisor an order and return its answer; LocalClusterError with its reason when it refuses."""
        return control.request(self.folder.control_socket, {"op": op, **details}, say, ORDER_SECONDS)

    def wait(self) -> None:
        """Wait until the cluster has ended, whatever ends it."""
        if self._holder is not None:
            self._holder.wait()

    def stop(self, say: Say = silent) -> None:
        """End every process and remove every file of this cluster; not of another that has its folder by now."""
        with locked(self.folder, say):
            if launch.recorded(self.folder) == self._holder:
                launch.end(self.folder)
                remove_tree(self.folder.root)

    def stop_apiserver(self) -> None:
        """Begin an outage of the API server."""
        self.order("apiserver-stop")

    def start_apiserver(self) -> None:
        """End the outage; returns when the API server is ready again."""
        self.order("apiserver-start")

    def add_node(self, name: str | None = None, *, spot: bool = False, gpus: int | None = None) -> str:
        """Start a node, wait until it is ready, and return its name (the next free node-N or spot-N by default)."""
        gpus = self.options.gpus if gpus is None else gpus
        return str(self.order("node-add", name=name, spot=spot, gpus=gpus)["name"])

    def preempt_node(self, name: str, notice_seconds: float, say: Say = silent) -> None:
        """Take a node away as a cloud does; returns when the notice is given (or, with 0, when all on it is dead).

        While the API server is stopped the notice cannot be given; `say` hears so, and the node goes all the same.
        """
        self.order("node-preempt", say=say, name=name, notice=notice_seconds)

    def kill_node(self, name: str) -> None:
        """End a node and all on it by SIGKILL; its Node object stays."""
        self.order("node-kill", name=name)

    def recover_node(self, name: str) -> None:
        """Start a killed or preempted node again, and wait until it is ready."""
        self.order("node-recover", name=name)

    def run(self, program: str, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run `program` (kubectl, or a path) with this cluster's kubeconfig; the caller judges its exit code."""
        return subprocess.run(
            [str(self.options.programs.get(program, program)), *args],
            input=input,
            capture_output=True,
            text=True,
            check=False,
            env=self.environment(),
        )

    def kubectl(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run kubectl with `args`."""
        return self.run("kubectl", *args, input=input)

    def environment(self) -> dict[str, str]:
        """Return this process's environment with KUBECONFIG set, and our own programs (kubectl plugins) on PATH."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def client_certificate(self, user: str, groups: Sequence[str] = ()) -> ClientAccess:
        """Issue a client certificate for `user` in `groups`, with a kubeconfig for it."""
        file = "client-" + "".join(letter if letter.isalnum() else "-" for letter in user)
        files = Authority(self.folder.certificates).client(file, user, groups)
        kubeconfig = write_kubeconfig(
            self.folder.certificates / f"{file}.kubeconfig",
            name=user,
            server=self.server,
            authority=self.authority,
            client=files,
        )
        return ClientAccess(files, kubeconfig)

    def _start_failed(self) -> bool:
        """Whether it never came up and never will: it takes no orders, or says so itself."""
        try:
            return bool(self.order("status")["failure"])
        except LocalClusterError:
            return not self.folder.control_socket.exists()

    def _await_socket(self) -> None:
        deadline = time.monotonic() + SOCKET_SECONDS
        while not self.folder.control_socket.exists():
            if launch.running(self.folder) is None or time.monotonic() > deadline:
                log = (self.folder.logs / "supervisor.log").read_text().strip().splitlines()
                raise LocalClusterError(f"the supervisor did not start: {log[-1] if log else 'it said nothing'}")
            time.sleep(POLL_SECONDS)
