"""What ends a run before its target, with which exit code, and with which words."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffusion_core.objectives import Denoise, training_loss
from diffusion_core.randomness import RowRandomness
from diffusion_trainer import resumption, trainer_process, training_loop
from diffusion_trainer.checkpoint.names import committed_steps
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.process_messages import ProcessUpdate
from diffusion_trainer.training_loop import Diverged, Training
from trainer_in_process import EVERY_FOUR, SHORT, in_the_end, steps_folder, train_here
from trainer_workers import DIVERGING, run_document

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_gradient_that_is_not_finite_ends_with_93_and_keeps_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def poisoned(
        denoise: Denoise, clean: torch.Tensor, labels: torch.Tensor | None, rows: RowRandomness, *specs: Any
    ) -> torch.Tensor:
        losses = training_loss(denoise, clean, labels, rows, *specs)
        return losses * float("nan") if rows.positions[0] >= 30 else losses

    monkeypatch.setattr(training_loop, "training_loss", poisoned)
    code, said = train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR)
    assert code == 93
    assert [update.message for update in said if update.state == "Failed"] == [
        "the training has diverged, the gradient of step 7 is not finite: create another DiffusionTraining with a "
        "lower learningRate or gradientClip in spec.training.optimizer"
    ]
    assert committed_steps(steps_folder(tmp_path)) == [4]


def test_a_learning_rate_that_is_far_too_high_ends_with_93_in_a_few_steps(tmp_path: Path) -> None:
    code, said = train_here(tmp_path, **DIVERGING, checkpoint=EVERY_FOUR)
    assert code == 93
    assert "the training has diverged" in (in_the_end(said).message or "")


def test_a_configuration_that_the_network_refuses_ends_with_64(tmp_path: Path) -> None:
    model = run_document()["model"]
    model["denoiser"]["config"] = {"no_such_key": 1}
    code, said = train_here(tmp_path, model=model)
    assert code == 64
    assert (in_the_end(said).refused_path or "").startswith("spec.model.denoiser.config")


def test_fp16_without_an_accelerator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_process, "choose_device", lambda _local_rank: torch.device("cpu"))
    code, said = train_here(tmp_path, training={**SHORT, "precision": "FP16"})
    assert (code, in_the_end(said).refused_path) == (64, "spec.training.precision")


def test_a_checkpoint_folder_that_may_not_be_read_is_refused_and_not_trained_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_given: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(resumption, "find_newest", closed)
    code, said = train_here(tmp_path, training=SHORT)
    assert (code, in_the_end(said).refused_path) == (64, "spec.checkpoint.storage")
    assert "may not be read (Permission denied)" in (in_the_end(said).message or "")


@pytest.mark.parametrize(("scaler", "bearable"), [(None, 0), (object(), training_loop._MOST_OVERFLOWS)])
def test_gradients_that_are_not_finite_end_the_run_at_once_or_under_fp16_after_many(
    scaler: object, bearable: int
) -> None:
    training: Any = Training.__new__(Training)
    training._accelerator, training.state = SimpleNamespace(scaler=scaler), SimpleNamespace(step=4)
    training._overflows = 0
    for _ in range(3):
        for _ in range(bearable):
            training._judge(math.inf)
        training._judge(1.0)
    for _ in range(bearable):
        training._judge(math.nan)
    with pytest.raises(Diverged, match="the gradient of step 5 is not finite"):
        training._judge(math.nan)


def test_a_checkpoint_of_another_configuration_is_refused_and_not_trained_over(tmp_path: Path) -> None:
    train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR)
    for changes, path in (
        ({"diffusion": {"schedule": {"type": "Linear"}}}, "spec.diffusion"),
        ({"training": {**SHORT, "globalBatchSize": 6}}, "spec"),
    ):
        fields: dict[str, Any] = {"training": SHORT, "checkpoint": EVERY_FOUR, **changes}
        code, said = train_here(tmp_path, attempt=1, **fields)
        assert (code, in_the_end(said).refused_path) == (64, path)
        assert "create another DiffusionTraining" in (in_the_end(said).message or "")


def test_a_newer_attempt_shuts_this_one_out(tmp_path: Path) -> None:
    def newer_attempt_opens(update: ProcessUpdate, inbox: Inbox) -> None:
        if update.state == "Training":
            (steps_folder(tmp_path) / "FENCE-7").touch()

    code, said = train_here(tmp_path, newer_attempt_opens, training=SHORT, checkpoint=EVERY_FOUR)
    assert code == 75
    assert "attempt 7 has taken over" in (in_the_end(said).message or "")
    assert committed_steps(steps_folder(tmp_path)) == []
