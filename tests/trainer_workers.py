"""Real workers of one training run, with a fake operator: what tests of processes start, kill and wait for."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deadline import wait_until
from diffusion_contract.agent_messages import TrainerReport
from diffusion_trainer.checkpoint.names import committed_name, committed_steps, run_folder
from diffusion_trainer.checkpoint.verification import verify_checkpoint
from fake_operator import FakeOperator
from worker_nursery import Nursery

TINY_UNET = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
DIVERGING: dict[str, Any] = {
    "model": {
        "denoiser": {"type": "DiT", "sampleSize": 8, "channels": 1, "config": {"hidden_size": 32, "num_heads": 2}},
        "conditioning": {"type": "Class", "classes": 10},
    },
    "training": {"targetSteps": 100_000, "globalBatchSize": 6, "seed": 3, "optimizer": {"learningRate": 1}},
}
"""Sections of a run whose weights grow until, in a few steps, the gradient is beyond fp32."""
LONG = {"targetSteps": 100_000, "globalBatchSize": 6, "seed": 3}
"""A training that ends in no test."""
NEVER = {"interval": {"steps": 1_000_000}, "retain": {"last": 3}}
"""Checkpoints for no other reason than that somebody leaves."""


def run_document(**changes: object) -> dict[str, Any]:
    """A run.json that trains a tiny network on the digits; `changes` replaces whole sections."""
    return {
        "name": "tiny",
        "namespace": "default",
        "uid": "0f7a6f7e-3c1f-4f2a-9d3e-2f6c8a1b4d5e",
        "model": {
            "denoiser": {"type": "UNet2DModel", "sampleSize": 8, "channels": 1, "config": TINY_UNET},
            "conditioning": {"type": "Class", "classes": 10},
        },
        "diffusion": {"schedule": {"type": "FlowMatching"}, "prediction": "Flow"},
        "dataset": {"uri": "builtin://digits"},
        "training": {"targetSteps": 20, "globalBatchSize": 6, "seed": 3},
        "checkpoint": {"interval": {"steps": 5}, "retain": {"last": 3}},
        "publish": {"claim": "models", "name": "tiny"},
        **changes,
    }


@dataclass
class Worker:
    """One worker pod."""

    uid: str
    pid: int
    log: Path
    termination_file: Path
    run: "Run"

    @property
    def exit_code(self) -> int | None:
        return self.run.nursery.exit_codes.get(self.pid)

    @property
    def report(self) -> TrainerReport | None:
        return self.run.operator.newest(self.uid)

    @property
    def said(self) -> TrainerReport:
        """The report of one that has made its first; AssertionError before."""
        assert self.report is not None, f"{self.uid} has not reported yet"
        return self.report

    @property
    def step(self) -> int:
        """The step that it has said to hold; AssertionError before it holds one."""
        assert self.said.step is not None, f"{self.uid} holds no step yet"
        return self.said.step

    def reports(self) -> list[TrainerReport]:
        return list(self.run.operator.pods[self.uid].reports)

    def last_words(self) -> dict[str, Any]:
        words: dict[str, Any] = json.loads(self.termination_file.read_text())
        return words

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End everything of this pod at once, as a machine that loses power."""
        os.killpg(self.pid, signal.SIGKILL)

    def trainer_pids(self) -> list[int]:
        """The trainer processes by their titles, in the order of their local ranks."""
        titles = {pid: title(pid) for pid in descendants(self.pid)}
        trainers = [pid for pid in titles if titles[pid].startswith("diffusion-trainer: process")]
        return sorted(trainers, key=titles.__getitem__)

    def wait_exit(self, seconds: float = 30) -> int:
        wait_until(lambda: self.exit_code is not None, seconds, f"{self.uid} ends", 0.02)
        assert self.exit_code is not None
        return self.exit_code

    def wait_step(self, step: int, seconds: float = 40) -> None:
        wait_until(
            lambda: ((self.report and self.report.step) or -1) >= step, seconds, f"{self.uid} at step {step}", 0.01
        )


class Run:
    """A folder, a configuration, an operator and the workers of one run."""

    def __init__(self, nursery: Nursery, folder: Path, document: dict[str, Any], minimum: int = 1) -> None:
        self.nursery, self.folder = nursery, folder
        self.document = document
        self.operator = FakeOperator(folder, minimum=minimum)
        self.operator.start()
        self.config_file = folder / "run.json"
        self.config_file.write_text(json.dumps(document))
        self.checkpoints, self.models = folder / "checkpoints", folder / "models"
        for each in (self.checkpoints, self.models, folder / "scratch"):
            each.mkdir()
        self.workers: list[Worker] = []

    @property
    def run_folder(self) -> Path:
        return run_folder(self.checkpoints, str(self.document["name"]), str(self.document["uid"]))

    def committed(self) -> list[int]:
        return committed_steps(self.run_folder)

    def shard_digests(self, step: int) -> dict[str, str]:
        """The sha256 of every shard of a checkpoint, after a look at the files themselves."""
        manifest = verify_checkpoint(self.run_folder / committed_name(step)).manifest
        return {name: file.sha256 for name, file in manifest.files.items()}

    def start_worker(
        self,
        processes: int = 1,
        attempt: int = 0,
        document: dict[str, Any] | None = None,
        on_cpu: bool = False,
        **changed: Any,
    ) -> Worker:
        """Start one; with a `document` it reads a configuration of its own. `changed` replaces settings.

        Several processes are always `on_cpu`: one without a GPU of its own is refused, and there may be one only.
        """
        number = len(self.workers)
        uid, address = f"worker-{number}", f"127.{os.getpid() // 250 % 250}.{os.getpid() % 250}.{number + 2}"
        self.operator.expect(uid, address, processes)
        token = self.folder / f"token-{uid}"
        token.write_text(uid)
        config_file = self.config_file
        if document is not None:
            config_file = self.folder / f"run-{uid}.json"
            config_file.write_text(json.dumps(document))
        settings = {
            "pod": uid, "uid": uid, "address": address, "attempt": attempt, "processes": processes,
            "config_file": config_file, "checkpoints": self.checkpoints, "models": self.models,
            "scratch": self.folder / "scratch", "termination_file": self.folder / f"termination-{uid}",
            "operator_patience_seconds": 1.0, "leave_seconds": 15.0,
            **changed,
        }  # fmt: skip
        log = self.folder / f"{uid}.log"
        order = {
            "settings": settings, "url": self.operator.url, "ca": self.operator.ca_file, "token": token, "log": log,
            "on_cpu": on_cpu or processes > 1,
        }  # fmt: skip
        pid = self.nursery.start_worker(order)
        worker = Worker(uid, pid, log, self.folder / f"termination-{uid}", self)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """End all workers, then the operator."""
        for worker in self.workers:
            if worker.exit_code is None:
                worker.kill()
        self.operator.stop()

    def logs(self) -> str:
        return "\n".join(
            f"=== {worker.uid}\n{worker.log.read_text()}" for worker in self.workers if worker.log.exists()
        )


MakeRun = Callable[..., Run]
"""Makes a Run in a folder of its own: `make_run(minimum=1, **changes of its document)`."""


def descendants(pid: int) -> list[int]:
    """Processes below `pid`. The kernel's own list of children may leave some out while others end."""
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:  # It has ended.
        return []


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
