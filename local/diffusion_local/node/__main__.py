"""`python -m diffusion_local.node --config FILE`: run one node until it is told to stop."""

import argparse
import asyncio
import logging
import os
from pathlib import Path

from diffusion_local.node.agent import run_agent
from diffusion_local.node.configuration import NodeConfiguration


def main() -> None:
    """Read the configuration and run."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_local.node", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see configuration.py")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.umask(0o022)  # pods of other users read what the agent writes for them
    asyncio.run(run_agent(NodeConfiguration.load(arguments.config)))


if __name__ == "__main__":
    main()
