"""`python -m diffusion_local.node --config FILE`: run one node until it is told to stop."""

import argparse
import asyncio
import ctypes
import logging
import os
from pathlib import Path

from diffusion_local.node.agent import run_agent
from diffusion_local.node.configuration import NodeConfiguration

CLONE_NEWNS = 0x00020000


def see_own_processes() -> None:
    """Make /proc show this process table, for an agent that was put into a new one without a new /proc."""
    if Path("/proc/self").readlink().name == str(os.getpid()):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    private, recursive = 1 << 18, 1 << 14
    steps = (
        libc.unshare(CLONE_NEWNS),
        libc.mount(b"none", b"/", None, private | recursive, None),
        libc.mount(b"proc", b"/proc", b"proc", 0, None),
    )
    if any(steps):
        raise OSError(ctypes.get_errno(), "cannot mount /proc for the node agent's process table")


def main() -> None:
    """Read the configuration and run."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_local.node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see configuration.py")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    see_own_processes()
    os.umask(0o022)  # pods of other users read what the agent writes for them
    asyncio.run(run_agent(NodeConfiguration.load(arguments.config)))


if __name__ == "__main__":
    main()
