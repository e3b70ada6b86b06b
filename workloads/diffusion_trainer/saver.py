"""The trainer's side of checkpoints: snapshot at a step boundary, hand over to the writer, never two at once."""

import contextlib
import logging
import math
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from diffusion_contract.agent_messages import CheckpointReference, SaveFailure
from diffusion_contract.checkpoint_manifest import CheckpointManifest
from diffusion_trainer.checkpoint.fencing import Fenced
from diffusion_trainer.checkpoint.shard_image import ShardImage
from diffusion_trainer.checkpoint.writer_messages import SaveOrder, SaveResult, ShardSize
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.packets import packet_pair
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.training_state import RNG, TrainingState

log = logging.getLogger(__name__)
_RETRY_SECONDS = 10.0
_STUCK_SECONDS = 600.0
"""A checkpoint that is still being written after so long is told of: its volume may not answer at all."""
_SAVES_REMEMBERED = 200
"""How many of the newest saves say how long a save takes."""


class Saver:
    """One process's checkpoints. `on_result` is called by the inbox's thread, all else by the training thread."""

    def __init__(self, writer: socket.socket, folder: Path, report: Reporter, inbox: Inbox) -> None:
        self._folder, self._report, self._inbox = folder, report, inbox
        self._writer: socket.socket | None = writer
        self._process: subprocess.Popen[bytes] | None = None
        self._condition = threading.Condition()
        self._images: dict[str, ShardImage] = {}
        self._in_flight: int | None = None
        self._unverified: int | None = None
        self._is_owed = False
        self.committed: CheckpointReference | None = None
        self._newest_verified = -1
        self.failure: SaveFailure | None = None
        self.last_started = time.monotonic()
        self.postponed = 0
        """Back-pressure: saves that were due while the one before was still being written."""
        self._seconds: deque[float] = deque(maxlen=_SAVES_REMEMBERED)
        inbox.hear_writer(writer, self.on_result, self.on_writer_gone)

    @property
    def busy(self) -> bool:
        """True while the writer has a snapshot in hand that is neither committed nor given up."""
        return self._in_flight is not None

    def is_due(self, step: int, every_steps: int | None, every_seconds: int | None) -> bool:
        """True if a save should be taken at this step; postponed, and counted, while the writer is busy."""
        now = time.monotonic()
        if self.committed is not None and self.committed.step == step:
            return False
        due = step % every_steps == 0 if every_steps else now - self.last_started >= (every_seconds or 0)
        due = due or self._is_owed or (self.failure is not None and now - self.last_started >= _RETRY_SECONDS)
        if due and self.busy:
            if not self._is_owed:
                self.postponed += 1
                log.warning(
                    "a save was due at step %d while the one before is being written (%d so far)", step, self.postponed
                )
            self._is_owed = True
            if now - self.last_started > _STUCK_SECONDS and self.failure is None:
                self._tell_stuck()
            return False
        return due

    def preallocate(self, shards: dict[str, dict[str, Tensor]]) -> None:
        """Take the memory of snapshots now: the first save may be the one that a preemption has no time for."""
        for name, tensors in shards.items():
            self._image(name, tensors)

    def save(
        self,
        state: TrainingState,
        manifest: CheckpointManifest,
        rng_rows: Tensor,
        retain_last: int,
        urgent: bool = False,
        patience: float = 60.0,
    ) -> None:
        """Snapshot the state as it is now and hand it to the writer.

        Waits first for a save still in flight, for at most `patience` seconds: a volume that does not answer fails this
        save, and holds up nobody who can go on without it.
        """
        if not self.wait_until_free(patience):
            self._tell_stuck()
            return
        shards = {**state.shards(), RNG: {"rng": rng_rows}}
        for name, tensors in shards.items():
            self._image(name, tensors).fill(tensors)
        order = SaveOrder(
            folder=str(self._folder),
            manifest=manifest,
            shards=tuple(ShardSize(name=name, size=self._images[name].size) for name in shards),
            retain_last=retain_last,
            urgent=urgent,
            abandoned=tuple(state.counters.abandoned),
        )
        descriptors = [self._images[name].descriptor for name in shards]
        packet = order.model_dump_json(by_alias=True).encode()
        with self._condition:  # In one go: where this writer goes, what is in flight has gone with it, and no other.
            writer = self._attended_writer()
            self._in_flight, self._unverified, self._is_owed = manifest.step, manifest.step, False
            self._newest_verified = min(self._newest_verified, manifest.step - 1)  # A line that fell back saves again.
        self.last_started = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `on_writer_gone` will tell.
            socket.send_fds(writer, [packet], descriptors)

    def _tell_stuck(self) -> None:
        """Report that nothing can be saved now. The commit of what is being written takes it back."""
        said = f"the checkpoint of step {self._in_flight} is still being written: does the volume answer?"
        log.warning("not saved: %s", said)
        self.failure = SaveFailure(reason="SaveFailed", message=said)
        self._report.tell(save_failure=self.failure)

    def _attended_writer(self) -> socket.socket:
        """The writer's socket; one that has ended (the kernel may kill it for memory) is started anew. Locked."""
        if self._writer is None:
            self._writer, self._process = start_writer()
            self._inbox.hear_writer(self._writer, self.on_result, self.on_writer_gone)
        return self._writer

    def on_writer_gone(self) -> None:
        """The writer has ended: what it had in hand is not committed; the next save starts another one.

        What it had committed stays one, but it will not be read back here any more.
        """
        with self._condition:
            process, step = self._process, self._in_flight
            self._writer = self._process = self._unverified = None
            self._condition.notify_all()
        if process is not None:
            process.wait()
        if step is not None:
            failure = SaveFailure(reason="SaveFailed", message="the checkpoint writer was killed")
            self.on_result(SaveResult(step=step, failure=failure))

    def raise_if_fenced(self) -> None:
        """Raise Fenced if a newer attempt has taken over: nothing of this one will ever be committed."""
        if self.failure is not None and self.failure.reason == "Fenced":
            raise Fenced(self.failure.message)

    def on_result(self, result: SaveResult) -> None:
        """Take in what the writer says, and pass it on to the agent."""
        with self._condition:
            if result.step == self._in_flight:
                self._in_flight = None
            if result.step == self._unverified and (result.verified or result.failure):
                self._unverified = None
            if result.failure is not None:
                self.failure = result.failure
                self.forget(result.step)
                self._report.tell(save_failure=result.failure)
            elif result.committed is not None:
                self.committed, self.failure = result.committed, None
                self._seconds.append(result.seconds)
                longest = percentile_99(self._seconds)
                self._report.tell(committed=result.committed, save_failure=None, save_seconds=longest)
            elif result.verified is not None and result.step > self._newest_verified:
                # An older one may be read back after an urgent one: what was said is not taken back.
                self._newest_verified = result.step
                self._report.tell(verified=result.verified)
            self._condition.notify_all()

    def forget(self, step: int) -> None:
        """The commit of `step` was found damaged: it is none, and the step may be saved again."""
        if self.committed is not None and self.committed.step == step:
            self.committed = None

    def wait_until_free(self, seconds: float | None = None) -> bool:
        """Wait until no snapshot is in the writer's hands."""
        with self._condition:
            return self._condition.wait_for(lambda: not self.busy, seconds)

    def wait_verified(self, step: int, seconds: float) -> None:
        """Wait until the save of `step`, if there is one, is committed and read back, or has failed."""
        with self._condition:
            self._condition.wait_for(lambda: self._unverified != step, seconds)

    def _image(self, name: str, tensors: dict[str, Tensor]) -> ShardImage:
        """The preallocated image of a shard; made anew only when the number of ranks has changed."""
        image = self._images.get(name)
        if image is None or not image.fits(tensors):
            if image is not None:
                image.close()
            self._images[name] = image = ShardImage(name, tensors)
        return image


def percentile_99(seconds: Sequence[float]) -> float:
    """The time that 99 of 100 of these took at most: the nearest rank, so one that occurred. There is at least one."""
    return sorted(seconds)[math.ceil(0.99 * len(seconds)) - 1]


def start_writer() -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Start a writer as a process of its own, without any of this process's threads; our end of its socket, and it."""
    ours, theirs = packet_pair()
    command = [sys.executable, "-m", "diffusion_trainer.checkpoint.writer", str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    return ours, process
