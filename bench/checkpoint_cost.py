"""Checkpoint cost: what one save takes from the training loop, against other ways to save the same state.

One trainer process in a world of one, on one thread, trains a UNet2D of 20 M parameters with AdamW and an average: 328
MB of state. In every round each way has its turn, from a quiet start: a save and the ten steps after it, and ten steps
without one. The order rotates from round to round. What counts is the comparison with the ten steps without a save of
the same round, and of those the median; a first round is a warm-up. The ways:

- ours: a snapshot into preallocated memory, from which another process writes, hashes, syncs, commits and reads back
- save_file: safetensors' own, neither synced nor hashed, while the training waits
- the same promise as ours (digests, fsync, rename, read back) while the training waits
- torch.distributed.checkpoint.async_save, as it comes
"""

import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
from pydantic import JsonValue
from rich.console import Console

from bench.checkpoint_peers import TorchAsync, save_carefully, save_plainly
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
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.placement import placement
from diffusion_trainer.process_messages import Orders
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.saver import start_writer
from diffusion_trainer.settings import Settings
from diffusion_trainer.trainer_process import TrainerProcess
from diffusion_trainer.training_loop import Training

ROUNDS = 7
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


WITHOUT, OURS, PLAIN, CAREFUL, TORCH = "no save", "ours", "save_file", "the same promise, waiting", "torch async_save"
Round = dict[str, Timed]


def measure(console: Console) -> list[Figure]:
    """The loop's blocked time for a save, what save and ten steps take more than ten steps, and the writer's CPU."""
    with tempfile.TemporaryDirectory(prefix="diffusion-bench-") as folder, ExitStack() as closing:
        run = _Run(Path(folder), closing)
        run.round(0)
        before = run.writer_seconds()
        rounds = []
        for number in range(1, 1 + ROUNDS):
            rounds.append(run.round(number))
            console.print(f"  round {number}: {_told(rounds[-1])}")
        cpu = (run.writer_seconds() - before) / ROUNDS
    return _figures(rounds, f"{run.parameters / 1e6:.0f} M parameters, {run.megabytes:.0f} MB of state", cpu)


def _told(timed: Round) -> str:
    return "; ".join(f"{name} {one.whole:.2f} s ({one.blocked * 1000:.0f} ms blocked)" for name, one in timed.items())


def _figures(rounds: list[Round], size: str, writer_seconds: float) -> list[Figure]:
    def median(value: Callable[[Timed, Timed], float]) -> dict[str, float]:
        """Of each way: `value` of it and of the steps without a save in the same round."""
        return {name: statistics.median(value(timed[name], timed[WITHOUT]) for timed in rounds) for name in rounds[0]}

    blocked = median(lambda one, _without: one.blocked * 1000)
    times = median(lambda one, without: one.whole / without.whole)
    extra = median(lambda one, without: (one.whole - without.whole) * 1000)
    whole = f"Save and the next {STEPS} steps over {STEPS} steps without"
    return [
        Figure("Loop blocked by one save", blocked[OURS], "ms", PLAIN, blocked[PLAIN], size),
        *(
            Figure(whole, times[OURS], "x", name, times[name], f"{extra[OURS]:+.0f} ms against {extra[name]:+.0f} ms")
            for name in (PLAIN, CAREFUL, TORCH)
        ),
        Figure("CPU of the writer process for one save", writer_seconds, "s", note="written, hashed and read back"),
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
        self._training: Training = self._process._begin(self._group, instruction)
        closing.callback(self._training.close)
        self._saved: int | None = None
        self._folder = folder
        self._torch = TorchAsync()
        closing.callback(self._torch.close)
        self._cpu_of_writer = psutil.Process(writing.pid)
        shards = self._process.state.shards()
        self.parameters = sum(parameter.numel() for parameter in self._process.state.model.parameters())
        self.megabytes = sum(t.numel() * t.element_size() for shard in shards.values() for t in shard.values()) / 1e6

    def round(self, number: int) -> Round:
        """Every way once, each with the steps after it; the order rotates with the number."""
        ways: list[tuple[str, Callable[[], None]]] = [
            (WITHOUT, lambda: None),
            (OURS, self._save),
            (PLAIN, lambda: save_plainly(self._process.state.shards(), self._folder / "plain")),
            (CAREFUL, lambda: save_carefully(self._process.state.shards(), self._folder / f"careful-{number}")),
            (TORCH, lambda: self._torch.save(self._process.state.shards(), self._folder / f"torch-{number}")),
        ]
        turn = number % len(ways)
        timed = {name: self._timed(save) for name, save in ways[turn:] + ways[:turn]}
        for left in (self._folder / f"careful-{number}", self._folder / f"torch-{number}"):
            shutil.rmtree(left)
        return {name: timed[name] for name, _save in ways}

    def writer_seconds(self) -> float:
        """CPU seconds that the writer process has used so far."""
        times = self._cpu_of_writer.cpu_times()
        return times.user + times.system

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
        self._process.snapshots.take(self._group, self._training.target, urgent=False)

    def _await_verified(self) -> None:
        """Leave the writer time to commit and read back what it has in hand."""
        self._torch.wait(DISK_SECONDS)
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
