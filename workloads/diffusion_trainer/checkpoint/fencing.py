"""An older attempt cannot commit, whatever it still has in flight.

Each attempt that opens the run's folder leaves an empty file FENCE-<attempt> there, and the highest counts: two that
open it at once cannot lower it. Opening makes that file (1) and then removes the temporary folders of older attempts
(2). A commit checks the fence (a) and then renames its temporary folder (b).
No lock is needed: if (a) came before (1), then either (b) comes before (2), and whoever opened the folder finds the
checkpoint when it reads afterwards; or (2) comes first, and (b) has nothing left to rename.
"""

import os
import shutil
from pathlib import Path

from diffusion_registry.durable_folders import make_folder, sync_folder
from diffusion_trainer.checkpoint.names import FENCE, NEW_POINTER, TEMPORARY, fence_name


class Fenced(Exception):
    """A newer attempt has opened this run's folder; this one may write nothing more."""


def fence_level(folder: Path) -> int:
    """The highest attempt that has opened this folder, or -1."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return -1
    return max((int(match["attempt"]) for name in names if (match := FENCE.match(name))), default=-1)


def check_fence(folder: Path, attempt: int) -> None:
    """Raise Fenced if a newer attempt has opened the folder."""
    level = fence_level(folder)
    if level > attempt:
        raise Fenced(
            f"attempt {level} has taken over this run's checkpoints; attempt {attempt} may not commit any more"
        )


def raise_fence(folder: Path, attempt: int) -> None:
    """Open the folder for `attempt`: shut out older attempts, then take away what they have in flight.

    Raises Fenced if a newer attempt was here first, OSError where the folder cannot be written.
    """
    make_folder(folder)
    check_fence(folder, attempt)
    if fence_level(folder) < attempt:
        (folder / fence_name(attempt)).touch()
        sync_folder(folder)
    remove_temporaries(folder, below_attempt=attempt)
    check_fence(folder, attempt)


def remove_temporaries(folder: Path, below_attempt: int) -> None:
    """Remove the temporary folders of attempts below this one, each made unusable by a rename first.

    And what killed processes have left: pointers of those attempts on their way, and folders half removed.
    """
    for entry in folder.iterdir():
        match = TEMPORARY.match(entry.name)
        if match and int(match["attempt"]) < below_attempt:
            remove_folder(entry)
        elif (pointer := NEW_POINTER.match(entry.name)) and int(pointer["attempt"]) < below_attempt:
            entry.unlink(missing_ok=True)
        elif entry.name.startswith(".gone-"):
            shutil.rmtree(entry, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Take a folder's name away in one step, then its content: no reader or rename ever meets half of it."""
    gone = folder.with_name(f".gone-{folder.name.lstrip('.')}-{os.urandom(4).hex()}")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)
