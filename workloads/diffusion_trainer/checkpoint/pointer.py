"""`latest`: a pointer to the newest checkpoint, for people and other tools. Readers here never trust it.

A process may die between a commit and its pointer, so whoever finds that commit afterwards moves the pointer.
"""

import logging
import os
from collections.abc import Collection
from pathlib import Path

from diffusion_trainer.checkpoint.durable import write_durably
from diffusion_trainer.checkpoint.names import LATEST, committed_name, committed_steps, new_pointer_name
from diffusion_trainer.checkpoint.verification import find_newest, manifest_digest

log = logging.getLogger(__name__)


def point_if_newest(folder: Path, step: int, attempt: int, abandoned: Collection[str] = ()) -> None:
    """Let `latest` name the checkpoint of `step`, unless a newer one was committed and not passed over. Raises OSError.

    `abandoned` are the digests of those that were passed over.
    """
    newer = (each for each in committed_steps(folder) if each > step)
    if all(manifest_digest(folder / committed_name(each)) in abandoned for each in newer):
        _point_at(folder, step, attempt)


def point_away_from_damage(folder: Path, attempt: int) -> None:
    """Move `latest` to the newest checkpoint that holds, if there is one; a volume that refuses is only logged."""
    try:
        found = find_newest(folder).found
    except OSError as error:
        log.warning("`latest` still names a checkpoint that does not hold: %s", error)
        return
    if found is not None:
        point_at_what_holds(folder, found.manifest.step, attempt)


def point_at_what_holds(folder: Path, step: int, attempt: int) -> None:
    """Let `latest` name the checkpoint of `step`, the newest that holds; a volume that refuses is only logged."""
    try:
        _point_at(folder, step, attempt)
    except OSError as error:
        log.warning("`latest` does not name step %d, the newest that holds: %s", step, error)


def _point_at(folder: Path, step: int, attempt: int) -> None:
    pointer, content = folder / LATEST, f"{committed_name(step)}\n".encode()
    if not pointer.is_file() or pointer.read_bytes() != content:
        write_durably(pointer, content, folder / new_pointer_name(attempt, os.urandom(4).hex()))
