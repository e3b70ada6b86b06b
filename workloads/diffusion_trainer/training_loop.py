"""One generation's steps: forward, backward, optimizer, average, and then everyone agrees on whether to go on."""

import gc
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_contract.agent_messages import Recovery
from diffusion_contract.run_config import RunConfig
from diffusion_core.objectives import training_loss
from diffusion_core.randomness import RowRandomness
from diffusion_trainer import rng
from diffusion_trainer.dataset import Dataset
from diffusion_trainer.group import Group, make_accelerator, unwrap
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.learning_rate import learning_rate
from diffusion_trainer.live_config import LiveConfig
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.sampler import StatelessSampler, rank_slice
from diffusion_trainer.saver import Saver
from diffusion_trainer.training_state import TrainingState

log = logging.getLogger(__name__)
_MOST_OVERFLOWS = 50
"""Steps in a row that the gradient scaler may skip under FP16; it halves its scale of 65,536 each time."""


class Diverged(Exception):
    """The gradient is not finite: more of the same will not help. The worker exits with code 93."""


@dataclass(frozen=True)
class Data:
    """The samples and their order."""

    dataset: Dataset
    sampler: StatelessSampler


@dataclass(frozen=True)
class Boundary:
    """What all ranks agreed on after a step, and after which nobody may touch the group's other collectives."""

    generation: int
    """The newest generation that any rank has heard of."""
    informed: int
    """The lowest rank that has heard of it."""
    save: bool
    stop: bool
    leave: bool
    target: int
    loss: float
    """Mean loss over the global batch of the step."""

    def ends(self, generation: int) -> bool:
        """True if this generation ends here."""
        return self.generation > generation or self.stop or self.leave


@dataclass
class Interruption:
    """When and where the generation before ended, for the measure of how long recovery took."""

    at: float
    lost_steps: int


class Training:
    """The training of one process in one generation; also what it needs from outside: ears, mouth, saver, config."""

    def __init__(
        self,
        group: Group,
        state: TrainingState,
        data: Data,
        live: LiveConfig,
        saver: Saver,
        inbox: Inbox,
        report: Reporter,
        target: int,
        patience: float,
    ) -> None:
        self.target = target
        """The target step that all ranks agree on: the highest that one of them has read."""
        self.patience = patience
        """For how many seconds the operator may react to this pod's end before the group is stopped without it."""
        self.group, self.state, self.data, self.live = group, state, data, live
        self.saver, self.inbox, self.report = saver, inbox, report
        self.step_under_way = False
        self.longest_step = 0.0
        """Seconds that one step of this generation took at most."""
        self._overflows = 0
        self._losses: list[float] = []
        self._window = (time.monotonic(), state.counters.samples_seen)
        training = live.current.training
        self.device = next(state.model.parameters()).device
        self._accelerator = make_accelerator(group.place, training, self.device)
        state.optimizer.zero_grad(set_to_none=True)
        # The model is on its device already. accelerate would move it from "cpu" to "cpu:0", which copies every weight
        # and leaves the state with tensors that nobody trains.
        self._model = self._accelerator.prepare_model(state.model, device_placement=False)
        state.check_live()
        self._optimizer = self._accelerator.prepare_optimizer(state.optimizer, device_placement=False)
        if self._accelerator.scaler is not None and state.counters.scaler is not None:
            self._accelerator.scaler.load_state_dict(state.counters.scaler)
        if group.world > 2:
            self._settle_buckets()

    def close(self) -> None:
        """Take accelerate's wrapping off again, so that the next generation can wrap anew."""
        self._model = self._optimizer = self._accelerator = None
        unwrap(self.state.model)
        gc.collect()  # DDP hangs on to the gradient hooks in reference cycles; two of them would fight over gradients.

    def run(self, save: Callable[[], None], interruption: Interruption | None) -> Boundary | None:
        """Train until the target (None) or until the generation ends (the boundary at which all ranks stopped)."""
        while self.state.step < self.target:
            began = time.monotonic()
            loss_sum = self._step()
            self.longest_step = max(self.longest_step, time.monotonic() - began)
            boundary = self.agree(loss_sum)
            self.target = max(self.target, boundary.target)
            if interruption is not None:
                self._report_recovery(interruption)
                interruption = None
            self._report_progress(boundary.loss)
            if boundary.ends(self.group.generation):
                return boundary
            if boundary.save and self.state.step < self.target:
                save()
        return None

    def agree(self, loss_sum: float = 0.0) -> Boundary:
        """Compare what every rank knows; collective, and the only one besides gradients that each step costs."""
        self.saver.raise_if_fenced()
        config = self.live.refresh()
        orders = self.inbox.orders
        rows = self.group.gather(
            [
                self.inbox.newest_generation,
                self.group.rank == 0 and self._save_is_due(config),
                orders.instruction is not None and orders.instruction.stop,
                self._leaves_unasked(),
                config.training.target_steps,
                loss_sum,
            ]
        )
        generation, save, stop, leave, target, _loss = rows.max(dim=0).values.tolist()
        return Boundary(
            int(generation), int(rows[:, 0].argmax()), bool(save), bool(stop), bool(leave), int(target),
            float(rows[:, 5].sum()) / config.training.global_batch_size,
        )  # fmt: skip

    def _leaves_unasked(self) -> bool:
        """True once this pod was told to end and the operator has not reacted: then the group is stopped in-band."""
        since = self.inbox.terminating_since
        return since is not None and (self.group.world == 1 or time.monotonic() - since > self.patience)

    def _save_is_due(self, config: RunConfig) -> bool:
        interval = config.checkpoint.interval
        return self.saver.is_due(self.state.step, interval.steps, interval.seconds)

    def _step(self) -> float:
        """One optimizer step. Nothing of the state changes before the gradients of all ranks have arrived.

        What a network draws (drop-out) is a function of the seed, the step and the rank: a step that is made again
        after a peer was lost, or by a process that came in the middle, draws what it would have drawn.
        """
        config = self.live.current
        training, counters = config.training, self.state.counters
        self.step_under_way = True
        rng.seed_all(training.seed, self.state.step, self.group.rank)
        losses = self._backward(config, counters.samples_seen)
        self.group.confirm(self.device)  # A broken collective must show here, not after the update.
        norm = self._accelerator.clip_grad_norm_(self._model.parameters(), training.optimizer.gradient_clip)
        self._judge(float(norm))
        for group in self.state.optimizer.param_groups:
            group["lr"] = learning_rate(self.state.step, training, self.target)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.state.ema.update(self.state.weights)
        self._count(training.global_batch_size)
        return losses

    def _judge(self, norm: float) -> None:
        """Raise Diverged for a gradient that is not finite; under FP16 the scaler skips some, and only many end it."""
        self._overflows = 0 if math.isfinite(norm) else self._overflows + 1
        if self._overflows > (0 if self._accelerator.scaler is None else _MOST_OVERFLOWS):
            raise Diverged(
                f"the training has diverged, the gradient of step {self.state.step + 1} is not finite: create another "
                "DiffusionTraining with a lower learningRate or gradientClip in spec.training.optimizer"
            )

    def _count(self, batch: int) -> None:
        counters = self.state.counters
        counters.step = self.state.step + 1
        counters.samples_seen += batch
        counters.made_in = self.group.generation
        counters.ema_updates = self.state.ema.updates
        counters.optimizer_updates = int(next(iter(self.state.optimizer.state.values()))["step"].item())
        if self._accelerator.scaler is not None:
            counters.scaler = self._accelerator.scaler.state_dict()
        self.step_under_way = False

    def _backward(self, config: RunConfig, seen: int) -> float:
        """Gradients of the mean loss over the global batch, whatever the sizes of the ranks' slices; the local sum."""
        batch = config.training.global_batch_size
        start, stop = rank_slice(batch, self.group.rank, self.group.world)
        # A rank without samples takes one with weight zero: DDP needs everyone's backward pass.
        weight = self.group.world / batch if stop > start else 0.0
        losses = self._losses_at(config, seen + start, seen + max(stop, start + 1))
        self._accelerator.backward(losses.sum() * weight)
        return float(losses.detach().sum()) if weight else 0.0

    def _losses_at(self, config: RunConfig, start: int, stop: int) -> Tensor:
        """Loss of each sample at the positions start..stop-1: fp32 [stop - start]."""
        dataset = self.data.dataset
        indices = self.data.sampler.indices(start, stop)
        clean = dataset.normalization.to_model(torch.from_numpy(np.ascontiguousarray(dataset.pixels[indices])))
        labels = None if dataset.labels is None else torch.from_numpy(dataset.labels[indices]).to(self.device)
        rows = RowRandomness(config.training.seed, range(start, stop))
        return training_loss(self._model, clean.to(self.device), labels, rows, config.model, config.diffusion)

    def _settle_buckets(self) -> None:
        """Do one pass that counts for nothing.

        After its first pass DDP orders its buckets anew, and with three or more ranks the order of summation follows
        them. Done here, a resumed run sums in the same order as one that never stopped.
        """
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self._accelerator.backward(self._losses_at(self.live.current, 0, 1).sum() * 0)
        self._optimizer.zero_grad()

    def _report_recovery(self, interruption: Interruption) -> None:
        seconds = time.monotonic() - interruption.at
        log.info(
            "generation %d: first step after %.2f s, %d steps lost",
            self.group.generation,
            seconds,
            interruption.lost_steps,
        )
        self.report.tell(
            step=self.state.step,
            recovery=Recovery(
                generation=self.group.generation, lost_steps=interruption.lost_steps, seconds=round(seconds, 3)
            ),
        )

    def _report_progress(self, loss: float) -> None:
        self.state.counters.loss = loss
        self._losses.append(loss)
        if self.state.step > 1 and not self.report.progress_is_due():
            return
        started, seen = self._window
        now, counters = time.monotonic(), self.state.counters
        self.report.tell(
            step=counters.step,
            loss=sum(self._losses) / len(self._losses),
            samples_per_second=(counters.samples_seen - seen) / max(now - started, 1e-6),
            samples_seen=counters.samples_seen,
        )
        self._losses, self._window = [], (now, counters.samples_seen)
