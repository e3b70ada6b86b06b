"""Which checkpoints may go: never one of the newest `last`, and never the newest one that is known to hold."""

import logging
from collections.abc import Iterable
from pathlib import Path

from diffusion_trainer.checkpoint.fencing import remove_folder
from diffusion_trainer.checkpoint.names import committed_name, committed_steps

log = logging.getLogger(__name__)


def removable(steps: Iterable[int], last: int, newest_verified: int | None) -> list[int]:
    """Steps that may be removed, oldest first. While none is known to hold, nothing may be removed."""
    if newest_verified is None:
        return []
    ordered = sorted(steps, reverse=True)
    return sorted(step for step in ordered[last:] if step != newest_verified)


def apply_retention(folder: Path, last: int, newest_verified: int | None) -> list[int]:
    """Remove what may go; returns the steps removed. A folder that cannot be removed is left and logged."""
    removed = []
    for step in removable(committed_steps(folder), last, newest_verified):
        try:
            remove_folder(folder / committed_name(step))
            removed.append(step)
        except OSError as error:
            log.warning("checkpoint of step %d could not be removed: %s", step, error)
    return removed
