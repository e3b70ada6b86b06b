"""Every sample once an epoch, from the file to the loss, however often the number of workers changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_core.objectives import Denoise, training_loss
from diffusion_core.randomness import RowRandomness
from diffusion_trainer import training_loop
from diffusion_trainer.live_config import LiveConfig
from diffusion_trainer.training_state import Counters, build_state
from trainer_in_process import OneOf, alone, training_without_saves
from trainer_workers import run_document

pytestmark = pytest.mark.usefixtures("one_thread")
SAMPLES, BATCH = 23, 6
WORLDS = (1, 3, 2, 5, 1, 4, 6, 2)
"""How many ranks each step has: somebody comes or goes after every one."""


def test_no_sample_is_lost_or_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.broadcast_to(np.arange(SAMPLES, dtype=np.float32)[:, None, None], (SAMPLES, 8, 8))
    np.savez(tmp_path / "numbered.npz", images=images, labels=np.arange(SAMPLES))
    document = run_document(
        model={**run_document()["model"], "conditioning": {"type": "Class", "classes": SAMPLES}},
        dataset={"uri": f"file://{tmp_path}/numbered.npz"},
        training={"targetSteps": 99, "globalBatchSize": BATCH, "seed": 5},
    )
    (tmp_path / "run.json").write_text(json.dumps(document))
    live = LiveConfig(tmp_path / "run.json")
    state = build_state(live.current, torch.device("cpu"))
    state.apply_counters(Counters(step=0))
    taken: dict[int, int] = {}

    def note(
        denoise: Denoise, clean: torch.Tensor, labels: torch.Tensor | None, rows: RowRandomness, *specs: Any
    ) -> torch.Tensor:
        shown = ((clean[:, 0, 0, 0] + 1) / 2 * (SAMPLES - 1)).round().int().tolist()
        assert labels is not None
        assert labels.tolist() == shown, "each has its own label"
        for position, sample in zip(rows.positions, shown, strict=True):
            assert position not in taken, "no two ranks take the same position"
            taken[position] = sample
        return training_loss(denoise, clean, labels, rows, *specs)

    monkeypatch.setattr(training_loop, "training_loss", note)
    with alone() as group:
        training = training_without_saves(group, state, live, seed=5)
        for world in WORLDS:
            for rank in range(world):
                training.group = OneOf(rank, world)
                training._backward(live.current, state.counters.samples_seen)
            training._count(BATCH)
        training.close()
    assert sorted(taken) == list(range(len(WORLDS) * BATCH)), "no position is left out"
    epochs = [[taken[p] for p in range(start, start + SAMPLES)] for start in (0, SAMPLES)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(SAMPLES))] * 2
    assert epochs[0] != epochs[1], "each epoch has an order of its own"
