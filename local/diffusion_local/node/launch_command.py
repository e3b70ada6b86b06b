"""The very last steps before a command inside a container, its own or a probe's: signals, identity, `exec`.

Standard library only: this runs in a fresh process that is about to become something else.
"""

import os
import signal
import stat
from pathlib import Path
from typing import Any, NoReturn

from diffusion_local.node.mounts import libc

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, LAST_CAPABILITY = 1, 38, 24, 63


class StartError(Exception):
    """The command cannot be started; the message is what the container's status shows."""


def die_with_parent() -> None:
    """Be killed when the agent is."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def forget_signal_handling() -> None:
    """Handle and block no signal: what Python ignores (SIGPIPE, SIGXFSZ) would stay ignored in the command."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def become(spec: dict[str, Any]) -> None:
    """Take the user, groups and capabilities of the container, and let that user open its own output by name."""
    if spec["uid"] is not None:
        for descriptor in (1, 2):
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.fchown(descriptor, spec["uid"], -1)
    for capability in set(range(LAST_CAPABILITY + 1)) - set(spec["capabilities"]):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if spec["groups"] is not None:
        os.setgroups(spec["groups"])
    if spec["gid"] is not None:
        os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    if spec["uid"] is not None:
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    if spec["noNewPrivileges"]:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def program_path(name: str, search: str) -> str:
    """The file that `name` stands for, looked up in `search` as execvp does."""
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in search.split(":")]
    found = [path for path in candidates if os.access(path, os.X_OK) and stat.S_ISREG(Path(path).stat().st_mode)]
    if found:
        return found[0]
    if "/" in name:
        reason = "permission denied" if Path(name).exists() else "no such file or directory"
        raise StartError(f'exec: "{name}": stat {name}: {reason}')
    raise StartError(f'exec: "{name}": executable file not found in $PATH')


def run(argv: list[str], environment: dict[str, str]) -> NoReturn:
    """Become the command; StartError or OSError says why that is not possible."""
    path = program_path(argv[0], environment.get("PATH", ""))
    forget_signal_handling()
    os.execve(path, argv, environment)  # noqa: S606
