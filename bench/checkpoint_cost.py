"""Checkpoint cost: what one save takes from the training loop, against the same state written by safetensors.

One trainer process in a world of one, on one thread, trains a UNet2D of 20 M parameters with AdamW and an average: 328
MB of state. In every round, in turn: ten steps without a save; our save (the snapshot into preallocated memory, from
which another process writes, hashes, syncs and commits while training goes on) and ten steps; a plain synchronous
`save_file` of the same tensors, neither synced nor hashed, and ten steps. Each begins with no writer at work. The first
save of either is a warm-up: a run has many. The quickest of the rounds counts: what else runs on the machine adds more.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pydantic import JsonValue
from rich.console import Console
from safetensors.torch import save_file

from bench.figure import Figure
from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_contract.run_config import (
    CheckpointSpec,
    DatasetSpec,
    DenoiserSpec,
    DiffusionSpec,
    ModelSpec,
    RunConfig,
    TrainingSpec,
)
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox, Reporter
from diffusion_trainer.placement import placement
from diffusion_trainer.process_messages import Orders
from diffusion_trainer.saver import start_writer
from diffusion_trainer.settings import Settings
from diffusion_trainer.trainer_process import TrainerProcess
from diffusion_trainer.training_loop import Training

ROUNDS = 3
STEPS = 10
BATCH = 8
DISK_SECONDS = 120.0
UNET: dict[str, JsonValue] = {
    "block_out_channels": [128, 192, 256],
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "down_block_types": ["DownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "UpBlock2D"],
}


@dataclass(frozen=True)
class Timed:
    """Seconds of one save and the steps after it: those of the call alone, and all of them."""

    blocked: float
    whole: float


def measure(console: Console) -> list[Figure]:
    """The loop's blocked time for a save, and what save and ten steps take more than ten steps."""
    with tempfile.TemporaryDirectory(prefix="diffusion-bench-") as folder, ExitStack() as closing:
        run = _Run(Path(folder), closing)
        rounds = [run.round() for _ in range(1 + ROUNDS)][1:]
    none, ours, plain = (list(column) for column in zip(*rounds, strict=True))
    for number, (without, our, their) in enumerate(rounds):
        console.print(
            f"  round {number + 1}: {STEPS} steps {without.whole:.2f} s; ours {our.blocked:.3f} s blocked, "
            f"{our.whole:.2f} s in all; plain {their.blocked:.3f} s blocked, {their.whole:.2f} s in all"
        )
    steps, our_whole, plain_whole = (min(t.whole for t in times) for times in (none, ours, plain))
    size = f"{run.parameters / 1e6:.0f} M parameters, {run.megabytes:.0f} MB of state, quickest of {ROUNDS}"
    whole = f"{STEPS} steps alone: {steps:.2f} s; with our save {our_whole:.2f} s, with save_file {plain_whole:.2f} s"
    return [
        Figure(
            "Loop blocked by one save",
            min(t.blocked for t in ours) * 1000,
            "ms",
            "synchronous save_file",
            min(t.blocked for t in plain) * 1000,
            f"{size}; ours is synced, hashed and committed by another process",
        ),
        Figure(
            f"Save and the next {STEPS} steps over {STEPS} steps without",
            our_whole / steps,
            "x",
            "synchronous save_file",
            plain_whole / steps,
            whole,
        ),
    ]


class _Run:
    """One training in this process, as the trainer sets it up, driven step by step."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        config_file = folder / "run.json"
        config_file.write_text(_config().model_dump_json(by_alias=True))
        settings = Settings(config_file=config_file, checkpoints=folder / "checkpoints", scratch=folder)
        settings.checkpoints.mkdir()
        member = Member(pod=settings.pod, uid=settings.uid, address=settings.address)
        instruction = TrainerInstruction(attempt=0, generation=1, members=(member,), master_address=settings.address)
        inbox = Inbox(None, Orders(instruction=instruction))
        writer, writing = start_writer()
        closing.callback(writing.wait, 20)
        closing.callback(writer.shutdown, socket.SHUT_WR)
        self._process = TrainerProcess(settings, 0, inbox, Reporter(lambda _packet: None), writer)
        place = placement(instruction, settings.uid, 0)
        assert place is not None
        self._group = closing.enter_context(Group(place, settings.address, lambda: None, 10))
        self._training: Training = self._process._begin(self._group, inbox.orders)
        closing.callback(self._training.close)
        self._saved: int | None = None
        self._plain = folder / "plain"
        self._plain.mkdir()
        shards = self._process.state.shards()
        self.parameters = sum(parameter.numel() for parameter in self._process.state.model.parameters())
        self.megabytes = sum(t.numel() * t.element_size() for shard in shards.values() for t in shard.values()) / 1e6

    def round(self) -> tuple[Timed, Timed, Timed]:
        """Nothing, ours, and plain, each with the steps after it, each from a quiet start."""
        return self._timed(lambda: None), self._timed(self._save), self._timed(self._save_plainly)

    def _timed(self, save: Callable[[], None]) -> Timed:
        os.sync()
        began = time.perf_counter()
        save()
        blocked = time.perf_counter() - began
        for _ in range(STEPS):
            self._training._step()
            self._training.agree()
        whole = time.perf_counter() - began
        self._await_verified()
        return Timed(blocked, whole)

    def _save(self) -> None:
        self._saved = self._process.state.step
        self._process.snapshots.take(self._group, self._training.target)

    def _save_plainly(self) -> None:
        for name, tensors in self._process.state.shards().items():
            save_file(tensors, self._plain / name)

    def _await_verified(self) -> None:
        """Leave the writer time to commit and read back what it has in hand."""
        saver, step = self._process.saver, self._saved
        self._saved = None
        if step is None:
            return
        saver.wait_verified(step, DISK_SECONDS)
        if saver.failure is not None or saver.committed is None or saver.committed.step != step:
            raise RuntimeError(f"no checkpoint of step {step} within {DISK_SECONDS:.0f} s: {saver.failure}")


def _config() -> RunConfig:
    return RunConfig(
        name="bench",
        namespace="bench",
        uid="bench",
        model=ModelSpec(denoiser=DenoiserSpec(sample_size=8, config=UNET)),
        diffusion=DiffusionSpec(),
        dataset=DatasetSpec(uri="builtin://digits"),
        training=TrainingSpec(target_steps=100_000, global_batch_size=BATCH),
        checkpoint=CheckpointSpec(),
    )
