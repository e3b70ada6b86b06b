"""The trainer's side of a save, with a checkpoint writer that the test plays."""

import os
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from checkpoint_samples import DIGEST, manifest_for
from diffusion_contract.agent_messages import CheckpointReference, SaveFailure
from diffusion_trainer import saver as saver_module
from diffusion_trainer.checkpoint.writer_messages import MAX_SHARDS, SaveOrder, SaveResult
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.packets import packet_pair, receive
from diffusion_trainer.process_messages import ProcessUpdate
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.saver import Saver
from diffusion_trainer.training_state import Counters, TrainingState

KILLED = SaveFailure(reason="SaveFailed", message="the checkpoint writer was killed")


def reference(step: int) -> CheckpointReference:
    return CheckpointReference(step=step, digest=DIGEST, time="2026-01-01T00:00:00Z")


class TwoTensors:
    """As much of a training state as a saver looks at."""

    def __init__(self) -> None:
        self.weights = torch.arange(4.0)
        self.counters = Counters(abandoned=[DIGEST])

    def shards(self) -> dict[str, dict[str, torch.Tensor]]:
        return {"model.safetensors": {"a": self.weights}, "ema.safetensors": {"a": self.weights * 2}}


class Bench:
    """A saver whose writer is played by the test."""

    def __init__(self, folder: Path) -> None:
        self.said: list[ProcessUpdate] = []
        ours, self.writer = packet_pair()
        self.writer.settimeout(60)
        self.inbox = Inbox(None)
        report = Reporter(lambda packet: self.said.append(ProcessUpdate.model_validate_json(packet)))
        self.saver = Saver(ours, folder, report, self.inbox)
        self.ours, self.theirs = [ours], [self.writer]
        self.inbox.start()

    def save(self, step: int, patience: float = 60) -> None:
        state = cast(TrainingState, TwoTensors())
        self.saver.save(state, manifest_for(step), torch.zeros(1, 8, dtype=torch.uint8), 3, patience=patience)

    def order(self) -> SaveOrder:
        packet, descriptors = receive(self.writer, MAX_SHARDS)
        for descriptor in descriptors:
            os.close(descriptor)
        order = SaveOrder.model_validate_json(packet)
        assert len(descriptors) == len(order.shards)
        return order

    def answer(self, step: int, **fields: Any) -> None:
        self.writer.send(SaveResult(step=step, **fields).model_dump_json(by_alias=True).encode())

    def play_the_next_writer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The writer that the saver starts next is played by the test, too."""
        ours, self.writer = packet_pair()
        self.writer.settimeout(60)
        self.ours.append(ours)
        self.theirs.append(self.writer)
        monkeypatch.setattr(saver_module, "start_writer", lambda: (ours, None))

    def close(self) -> None:
        for end in self.theirs:
            end.close()
        assert self.inbox.join(60), "the inbox ends with the last writer"
        for end in self.ours:
            end.close()
