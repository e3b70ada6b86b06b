"""Which checkpoints may go: never one of the newest `last`, and never the newest one that is known to hold."""

import logging
from collections.abc import Collection, Iterable
from pathlib import Path

from diffusion_trainer.checkpoint.fencing import remove_folder
from diffusion_trainer.checkpoint.names import committed_name, committed_steps
from diffusion_trainer.checkpoint.verification import manifest_digest

log = logging.getLogger(__name__)


def removable(
    steps: Iterable[int], last: int, newest_verified: int | None, passed_over: Collection[int] = ()
) -> list[int]:
    """Steps that may be removed, oldest first. While none is known to hold, nothing may be removed.

    What was `passed_over` is none of the last, but stays, for who wants to know why, until training has gone past it.
    """
    if newest_verified is None:
        return []
    kept = {*sorted(set(steps) - set(passed_over), reverse=True)[:last], newest_verified}
    kept |= {step for step in passed_over if step > max(kept)}
    return sorted(set(steps) - kept)


def apply_retention(folder: Path, last: int, newest_verified: int | None, abandoned: Collection[str] = ()) -> list[int]:
    """Remove what may go; returns the steps removed. A folder that cannot be removed is left and logged.

    `abandoned` are the digests of checkpoints that were passed over.
    """
    steps, removed = committed_steps(folder), []
    passed_over = [step for step in steps if abandoned and manifest_digest(folder / committed_name(step)) in abandoned]
    for step in removable(steps, last, newest_verified, passed_over):
        try:
            remove_folder(folder / committed_name(step))
            removed.append(step)
        except OSError as error:
            log.warning("checkpoint of step %d could not be removed: %s", step, error)
    return removed
