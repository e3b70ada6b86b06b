"""Where this user's files go: the folders of the XDG base directory specification."""

import os
from pathlib import Path

from diffusion_local.errors import LocalClusterError


def user_folder(variable: str, below_home: str) -> Path:
    """Return the folder that the environment variable names, else the one below the user's home folder.

    Raises LocalClusterError with the remedy for a user without a home folder, such as an odd one of a container.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen).absolute()
    try:
        return (Path.home() / below_home).absolute()
    except RuntimeError as error:
        raise LocalClusterError(
            f"this user has no home folder: set the environment variable HOME, or {variable}, "
            "to a folder that you may write to"
        ) from error
