"""Every sample once an epoch, from the file to the loss, however often the number of workers changes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_core.normalization import measure_normalization
from diffusion_trainer import training_loop
from diffusion_trainer.dataset import load_dataset
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox, Reporter
from diffusion_trainer.live_config import LiveConfig
from diffusion_trainer.placement import placement
from diffusion_trainer.sampler import StatelessSampler
from diffusion_trainer.training_loop import Data, Training
from diffusion_trainer.training_state import Counters, build_state
from trainer_in_process import ALONE, OneOf
from trainer_workers import run_document

pytestmark = pytest.mark.usefixtures("one_thread")
SAMPLES, BATCH = 23, 6
WORLDS = (1, 3, 2, 5, 1, 4, 6, 2)
"""How many ranks each step has: somebody comes or goes after every one."""


def test_no_sample_is_lost_or_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.broadcast_to(np.arange(SAMPLES, dtype=np.float32)[:, None, None], (SAMPLES, 8, 8))
    np.savez(tmp_path / "numbered.npz", images=images, labels=np.zeros(SAMPLES, int))
    document = run_document(
        dataset={"uri": f"file://{tmp_path}/numbered.npz"},
        training={"targetSteps": 99, "globalBatchSize": BATCH, "seed": 5},
    )
    (tmp_path / "run.json").write_text(json.dumps(document))
    live = LiveConfig(tmp_path / "run.json")
    dataset = load_dataset(live.current)
    data = Data(dataset, StatelessSampler(len(dataset), 5), measure_normalization(dataset.pixels))
    state = build_state(live.current, torch.device("cpu"))
    state.apply_counters(Counters(step=0))
    taken: dict[int, int] = {}
    original = training_loop.training_loss

    def note(denoise, clean, labels, rows, *specs):
        shown = ((clean[:, 0, 0, 0] + 1) / 2 * (SAMPLES - 1)).round().int().tolist()
        for position, sample in zip(rows.positions, shown, strict=True):
            assert position not in taken, "no two ranks take the same position"
            taken[position] = sample
        return original(denoise, clean, labels, rows, *specs)

    monkeypatch.setattr(training_loop, "training_loss", note)
    with Group(placement(ALONE, "local", 0), "127.0.0.1", lambda: None, 1) as group:
        training = Training(group, state, data, live, None, Inbox(None), Reporter(lambda _packet: None), 99)
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
