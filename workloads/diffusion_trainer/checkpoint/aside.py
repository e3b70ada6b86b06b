"""A checkpoint in the way of one of the same step: it stays if it holds, else it is moved aside and removed.

It is looked at twice, in place and under its new name, because two processes may do this at once and the second look
is at something that nobody can exchange any more. A process that is killed between the two leaves a folder aside that
may be good; whoever opens the run's folder next puts it back. What cannot be read at the moment stays aside as well:
only a checkpoint that is known to be wrong is removed.
"""

import contextlib
import errno
import logging
import os
import re
from pathlib import Path

from diffusion_contract.checkpoint_manifest import CheckpointManifest
from diffusion_trainer.checkpoint.fencing import remove_folder
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import CheckpointInvalid, CheckpointUnreadable, verify_checkpoint

log = logging.getLogger(__name__)
NAME_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
"""What a rename says where another folder has the name."""
ASIDE = re.compile(r"^\.aside-(?P<step>\d{8,})-[0-9a-f]+$")


def manifest_if_it_holds(folder: Path, name: str | None = None) -> CheckpointManifest | None:
    """The manifest of a checkpoint (called `name`, or as its folder is) every byte of which is right, else None."""
    try:
        return verify_checkpoint(folder, name=name).manifest
    except CheckpointInvalid:
        return None


def clear_the_way(final: Path) -> None:
    """Move what does not hold away from a final name, and remove it. It may have vanished, or be a good one by now."""
    aside = final.with_name(f".aside-{final.name.removeprefix('step-')}-{os.urandom(4).hex()}")
    with contextlib.suppress(FileNotFoundError):
        final.rename(aside)
        put_back_or_remove(aside, final)


def put_back_or_remove(aside: Path, final: Path) -> None:
    """Give a folder that was moved aside its name again if it holds and nothing else has the name; else remove it.

    One that cannot be read is left as it is. Raises OSError where the volume refuses the rename.
    """
    try:
        verify_checkpoint(aside, name=final.name)
        aside.rename(final)
    except CheckpointUnreadable as error:
        log.warning("%s stays aside until it can be read: %s", aside.name, error)
    except CheckpointInvalid:
        remove_folder(aside)
    except OSError as error:
        if error.errno not in NAME_TAKEN:
            raise
        remove_folder(aside)


def settle_asides(folder: Path) -> None:
    """Deal with what a killed process has left aside in a run's folder."""
    for entry in sorted(folder.iterdir()):
        if match := ASIDE.match(entry.name):
            with contextlib.suppress(FileNotFoundError):  # Another process has dealt with it.
                put_back_or_remove(entry, folder / committed_name(int(match["step"])))
