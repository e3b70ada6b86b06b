"""A checkpoint that was passed over stands ahead of the run: nothing is taken for saved, newest or kept by it."""

from pathlib import Path
from typing import Any

import pytest

from diffusion_trainer.checkpoint.names import LATEST, committed_name, committed_steps
from diffusion_trainer.checkpoint.verification import verify_checkpoint
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.process_messages import Orders, ProcessUpdate
from trainer_in_process import steps_folder, train_here

pytestmark = pytest.mark.usefixtures("one_thread")


def run_of(target: int, every: int, last: int = 5) -> dict[str, Any]:
    checkpoint = {"interval": {"steps": every}, "retain": {"last": last}}
    return {"training": {"targetSteps": target, "globalBatchSize": 5}, "checkpoint": checkpoint, "publish": None}


def damaged_at_eight(folder: Path) -> Path:
    """Train to step 8 with checkpoints at 4 and 8, and flip a byte of the newest."""
    assert train_here(folder, **run_of(8, 4))[0] == 0
    shard = steps_folder(folder) / committed_name(8) / "model.safetensors"
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    return steps_folder(folder)


def test_who_leaves_before_the_step_of_the_damaged_one_saves(tmp_path: Path) -> None:
    folder = damaged_at_eight(tmp_path)

    def told_to_end(update: ProcessUpdate, inbox: Inbox) -> None:
        if update.step == 6 and not inbox.orders.terminating:
            inbox.take(Orders(instruction=inbox.orders.instruction, terminating=True))

    code, said = train_here(tmp_path, told_to_end, attempt=1, **run_of(100, 1000))
    left_with = next(update.step for update in said if update.state == "Leaving")
    assert code == 75
    assert left_with is not None
    assert left_with >= 6
    assert left_with in committed_steps(folder)
    assert verify_checkpoint(folder / committed_name(left_with)).manifest.step == left_with
    committed = [update.committed.step for update in said if update.committed is not None]
    assert committed[-1] == left_with, "its last words name its own commit, not the damaged one"
    assert (folder / LATEST).read_text() == f"{committed_name(left_with)}\n"


def test_the_damaged_one_is_none_of_the_last_that_are_kept(tmp_path: Path) -> None:
    folder = damaged_at_eight(tmp_path)
    assert train_here(tmp_path, attempt=1, **run_of(7, 1, last=2))[0] == 0
    ahead, *kept = committed_steps(folder)
    assert (ahead, kept[0], len(kept)) == (8, 7, 2)
