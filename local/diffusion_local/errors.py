"""The one error that this package raises for people: one line that says what is wrong and what to do about it."""

import os
from pathlib import Path


class LocalClusterError(Exception):
    """The embedded cluster cannot do what was asked; the message names the cause and the remedy."""


def make_folder(folder: Path, variable: str, mode: int = 0o777) -> None:
    """Make `folder` with its parents; LocalClusterError where we may not write, with the variable that moves it."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        problem = "" if os.access(folder, os.W_OK | os.X_OK) else "it is not ours to write to"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise LocalClusterError(
            f"there must be a folder {folder} ({problem}): "
            f"make it, or set the environment variable {variable} to a folder that you may write to"
        )
