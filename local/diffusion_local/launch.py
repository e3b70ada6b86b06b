"""From outside: make a cluster's namespaces, start the supervisor in them, and end it without a trace."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from diffusion_local.errors import LocalClusterError
from diffusion_local.lifetimes import DIE_WITH_PARENT, ProcessIdentity
from diffusion_local.options import ClusterOptions
from diffusion_local.state import StateFolder, write_atomically, write_json

UNSHARE = (
    sys.executable,
    *("-S", "-s", "-P"),
    str(Path(__file__).with_name("user_namespace.py")),
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
)
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
    can be reached from outside; both listen on loopback only. The supervisor begins only when it is on record: until
    then it waits at a pipe, and ends when that is closed (this process failed or died).
    """
    with contextlib.closing(_listen()) as api, contextlib.closing(_listen()) as router, _Gate() as gate:
        options = options.model_copy(update={"api_port": api.getsockname()[1], "router_port": router.getsockname()[1]})
        write_atomically(folder.config, options.to_json())
        if not folder.images.exists():
            write_json(folder.images, options.images)
        handed = {"--api-socket": api.fileno(), "--router-socket": router.fileno(), "--gate": gate.inside}
        command = [*(DIE_WITH_PARENT if owned else ()), *UNSHARE]
        command += [sys.executable, "-m", "diffusion_local.supervisor", "--folder", str(folder.root)]
        command += [word for option, number in handed.items() for word in (option, str(number))]
        with (folder.logs / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=tuple(handed.values()),
                start_new_session=True,
                cwd="/",
            )
        _STARTED[process.pid] = process
        write_json(folder.supervisor, dataclasses.asdict(ProcessIdentity.of(process.pid)))
        gate.open()


class _Gate:
    """A pipe that holds the supervisor back: `open` lets it begin; closed unopened, it ends."""

    def __enter__(self) -> "_Gate":
        self.inside, self._outside = os.pipe()
        return self

    def open(self) -> None:
        os.write(self._outside, b"!")

    def __exit__(self, *_: object) -> None:
        os.close(self.inside)
        os.close(self._outside)


def environment(folder: StateFolder) -> Path | None:
    """Return the Python environment that the cluster was started from; None when its files do not say.

    Whatever version wrote them: who ends a cluster of another version must know whose it is.
    """
    told = _told(folder, "environment")
    return None if told is None else Path(told)


def code(folder: StateFolder) -> str | None:
    """Return the digest of the code that the cluster was started from; None when its files do not say."""
    return _told(folder, "code")


def _told(folder: StateFolder, field: str) -> str | None:
    try:
        told = json.loads(folder.config.read_text())[field]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return told if isinstance(told, str) else None


def recorded(folder: StateFolder) -> ProcessIdentity | None:
    """Return the process that was started to hold the cluster's namespaces, whether it still runs or not."""
    try:
        return ProcessIdentity(**json.loads(folder.supervisor.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running(folder: StateFolder) -> ProcessIdentity | None:
    """Return the process that holds the cluster's namespaces, or None when it has ended."""
    process = recorded(folder)
    return process if process is not None and process.runs() else None


def end(folder: StateFolder) -> bool:
    """End every process of the cluster and wait until they are gone; False when there was none."""
    process = running(folder)
    if process is None:
        _collect_ended()
        return False
    first = process.children()
    if not process.kill_with(first, END_SECONDS):
        raise LocalClusterError(f"the cluster's processes did not end within {END_SECONDS:.0f} s (process {first})")
    if started := _STARTED.pop(process.pid, None):
        started.wait()
    return True


def _collect_ended() -> None:
    """Wait for children that somebody else has killed."""
    for process in [one for one in _STARTED.values() if one.poll() is not None]:
        del _STARTED[process.pid]


def _refusal(*command: str) -> str:
    """Why `command` does not work in the namespaces; empty when it does."""
    tried = subprocess.run([*UNSHARE, *command], capture_output=True, text=True, check=False)
    lines = tried.stderr.strip().splitlines() or ["no reason given"]
    return lines[-1] if tried.returncode else ""


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=512)
