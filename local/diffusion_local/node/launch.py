"""The last steps before a container's command: a file system of its own, a host name, an identity, then `exec`.

Runs as process 1 of a fresh PID namespace (`python -m diffusion_local.node.launch SPEC`), imports the standard library
only and keeps no state. SPEC is the JSON file that `launch_plan` writes. What goes wrong is written to the descriptor
`statusFd`, which `exec` closes: silence means that the command runs.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from diffusion_local.node.launch_command import StartError, become, die_with_parent, run
from diffusion_local.node.launch_root import enter_root
from diffusion_local.node.mounts import MS_PRIVATE, MS_REC, checked, libc, mount

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x40000000


def start(spec: dict[str, Any]) -> None:
    """Do all of it; returns only by an exception."""
    os.setsid()
    die_with_parent()
    for network in spec["networkFds"]:
        checked(libc.setns(network, CLONE_NEWNET), "the pod's network")
        os.close(network)
    checked(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC), "namespaces of its own")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    os.umask(0o022)
    hostname = spec["hostname"].encode()
    checked(libc.sethostname(hostname, len(hostname)), "sethostname")
    enter_root(spec)
    become(spec)
    os.chdir(spec["workingDirectory"])
    run(spec["argv"], spec["environment"])


def main() -> None:
    """Start the container described by the file in the first argument; on failure say why and exit 128."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    os.set_inheritable(spec["statusFd"], False)
    try:
        start(spec)
    except (OSError, ValueError, StartError) as error:  # ValueError: a zero byte in a variable or an argument
        os.write(spec["statusFd"], str(error).encode())
    os._exit(128)


if __name__ == "__main__":
    main()
