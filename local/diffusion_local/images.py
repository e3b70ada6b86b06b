"""The image map: what an image name means on a node whose pods are processes of this machine."""

import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from diffusion_local.errors import LocalClusterError
from diffusion_local.options import ImageCommands
from diffusion_local.state import write_json

DISTRIBUTION = "diffusion-operator"
COMMANDS = {
    "operator": "diffusion-operator",
    "trainer": "diffusion-trainer",
    "server": "diffusion-server",
    "router": "diffusion-router",
}

USER = 65532
"""As the Dockerfile has it."""


def default_images() -> dict[str, ImageCommands]:
    """Return the project's own images as commands of this environment, and two general ones for trials.

    These have no entry point, like those of that name: `kubectl run --image=busybox:1.37 -- sleep 60` runs `sleep 60`.
    """
    programs = Path(sys.executable).parent
    own = version(DISTRIBUTION)
    images: dict[str, ImageCommands] = {
        f"{DISTRIBUTION}/{part}:{own}": {"entrypoint": [str(programs / name)], "user": USER}
        for part, name in COMMANDS.items()
    }
    return images | {"busybox:1.37": {"cmd": ["sh"]}, "python:3.11-slim": {"cmd": [sys.executable]}}


def add_image(file: Path, assignment: str) -> tuple[str, list[str]]:
    """Add NAME=COMMAND to the image map in `file` and return both; LocalClusterError for another form.

    COMMAND is the image's entry point: the args of a container follow it.
    """
    name, separator, command = assignment.partition("=")
    try:
        argv = shlex.split(command)
    except ValueError as error:
        raise LocalClusterError(f"the command of {assignment!r} cannot be read: {error}") from error
    if not (separator and name and argv):
        raise LocalClusterError(f"{assignment!r} is not of the form NAME=COMMAND, such as 'my/image:1=python3 -m app'")
    images = json.loads(file.read_text())
    images[name] = {"entrypoint": argv}
    write_json(file, images)
    return name, argv
