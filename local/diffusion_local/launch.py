"""From outside: make a cluster's namespaces, start the supervisor in them, and end it without a trace."""

import contextlib
import json
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from diffusion_local.errors import LocalClusterError
from diffusion_local.options import ClusterOptions
from diffusion_local.state import StateFolder, write_atomically, write_json

UNSHARE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
)
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
NEEDED = {"unshare": "util-linux", "setpriv": "util-linux", "ip": "iproute2"}
END_SECONDS = 20.0
_STARTED: dict[int, subprocess.Popen[bytes]] = {}
"""Children of this very process, kept so that they can be waited for."""


def check_machine() -> None:
    """Raise LocalClusterError with the remedy when this machine cannot make the namespaces."""
    if sys.platform != "linux":
        raise LocalClusterError("the embedded cluster needs Linux: use a Linux machine, or kind with KUBECONFIG")
    for tool, package in NEEDED.items():
        if shutil.which(tool) is None:
            raise LocalClusterError(f"the command {tool} is missing: install the package {package}")
    if reason := _refusal("true"):
        raise LocalClusterError(
            f"this machine refuses user namespaces ({reason}): allow them "
            "(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, "
            "kernel.apparmor_restrict_unprivileged_userns=0), or in a container run it privileged"
        )
    if reason := _refusal("ip", "link", "add", "inner", "type", "veth", "peer", "name", "outer"):
        raise LocalClusterError(f"this kernel makes no virtual network pairs ({reason}): load its module veth")


def start(folder: StateFolder, options: ClusterOptions, *, owned: bool) -> None:
    """Start the supervisor for a new cluster in `folder`; with `owned` it dies with the calling thread.

    The sockets listen in the caller's network namespace and are handed in, so that the API server and the router
    can be reached from outside; both listen on loopback only.
    """
    with contextlib.closing(_listen()) as api, contextlib.closing(_listen()) as router:
        options = options.model_copy(update={"api_port": api.getsockname()[1], "router_port": router.getsockname()[1]})
        write_atomically(folder.config, options.to_json())
        if not folder.images.exists():
            write_json(folder.images, options.images)
        command = [*(DIE_WITH_PARENT if owned else ()), *UNSHARE]
        command += [sys.executable, "-m", "diffusion_local.supervisor", "--folder", str(folder.root)]
        command += ["--api-socket", str(api.fileno()), "--router-socket", str(router.fileno())]
        with (folder.logs / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(api.fileno(), router.fileno()),
                start_new_session=True,
                cwd="/",
            )
    _STARTED[process.pid] = process
    write_json(folder.supervisor, {"pid": process.pid, "started": psutil.Process(process.pid).create_time()})


def running(folder: StateFolder) -> psutil.Process | None:
    """Return the process that holds the cluster's namespaces, or None when it has ended."""
    try:
        told = json.loads(folder.supervisor.read_text())
        process = psutil.Process(told["pid"])
        same = process.create_time() == told["started"] and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return None
    return process if same else None


def end(folder: StateFolder) -> bool:
    """End every process of the cluster and wait until they are gone; False when there was none."""
    process = running(folder)
    if process is None:
        return False
    first = [child.pid for child in process.children()]
    with _watched([process.pid, *first]) as ended:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        if not ended(END_SECONDS):
            raise LocalClusterError(f"the cluster's processes did not end within {END_SECONDS:.0f} s (process {first})")
    if started := _STARTED.pop(process.pid, None):
        started.wait()
    return True


def remove(folder: StateFolder) -> None:
    """Remove the cluster's files, volumes included."""

    def open_up(function: Callable[..., object], path: str, _: BaseException) -> None:
        Path(path).parent.chmod(stat.S_IRWXU)
        if not Path(path).is_symlink():
            Path(path).chmod(stat.S_IRWXU)
        function(path)

    if folder.root.exists():
        if sys.version_info >= (3, 12):
            shutil.rmtree(folder.root, onexc=open_up)
        else:
            shutil.rmtree(folder.root, onerror=lambda call, path, info: open_up(call, path, info[1]))


def _refusal(*command: str) -> str:
    """Why `command` does not work in the namespaces; empty when it does."""
    tried = subprocess.run([*UNSHARE, *command], capture_output=True, text=True, check=False)
    lines = tried.stderr.strip().splitlines() or ["no reason given"]
    return lines[-1] if tried.returncode else ""


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=512)


@contextmanager
def _watched(pids: list[int]) -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits until all of `pids` have ended; a PID namespace's first process ends as its last."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))

    def ended(seconds: float) -> bool:
        poll = select.poll()
        for handle in handles:
            poll.register(handle, select.POLLIN)
        waiting = len(handles)
        while waiting:
            ready = poll.poll(seconds * 1000)
            if not ready:
                return False
            for handle, _ in ready:
                poll.unregister(handle)
            waiting -= len(ready)
        return True

    try:
        yield ended
    finally:
        for handle in handles:
            os.close(handle)
