"""Run a command inside a running container, for exec probes and hooks: its namespaces, folder, identity and variables.

Runs as a process of its own (`python -m diffusion_local.node.enter`) that reads its order from standard input and ends
with the command's exit code. Nothing of it is looked up inside the container but the command itself.

SIGTERM kills the command. Whoever killed this process instead would leave a dead command that nobody waits for, and the
container with it, since the kernel lets go of a process table only when all that was in it has been waited for.
"""

import contextlib
import json
import os
import signal
import sys
from typing import Any, NoReturn

from diffusion_local.node.launch_command import StartError, become, die_with_parent, run
from diffusion_local.node.mounts import checked, libc

NAMESPACES = ("ipc", "uts", "net", "pid", "mnt")
"""The mount namespace comes last: afterwards /proc is the container's."""
NOT_STARTED = 127


def enter(pid: int) -> None:
    """Join the namespaces of a process."""
    descriptors = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]
    for name, descriptor in zip(NAMESPACES, descriptors, strict=True):
        checked(libc.setns(descriptor, 0), f"enter the {name} namespace of the container")


def command(order: dict[str, Any]) -> NoReturn:
    """Become the command."""
    os.setsid()
    die_with_parent()
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    become(order)
    os.chdir(order["workingDirectory"])
    run(order["argv"], order["environment"])


def kill_when_told(child: int) -> None:
    """Pass SIGTERM on as SIGKILL, to everything that the command has started in its session."""

    def kill(*_: object) -> None:
        os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # not in a session of its own yet
            os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, kill)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def main() -> None:
    """Do what standard input says and exit with the command's code, 128 + signal when it was killed."""
    order = json.loads(sys.stdin.buffer.read())
    die_with_parent()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        enter(order["pid"])
        child = os.fork()  # only a child is in the container's process table
        if child == 0:
            command(order)
    except (OSError, ValueError, StartError) as error:
        os.write(2, f"{error}\n".encode())
        os._exit(NOT_STARTED)
    kill_when_told(child)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
