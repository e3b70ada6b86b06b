"""All that a run is at one step: weights, optimizer, moving average, counters; the same on each rank."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from diffusion_contract.run_config import RunConfig
from diffusion_core.denoisers import Denoiser, build_denoiser
from diffusion_core.ema import EMA
from diffusion_core.model_folder import mismatch
from diffusion_trainer.checkpoint.verification import VerifiedCheckpoint

MODEL, AVERAGE, OPTIMIZER, RNG = "model.safetensors", "ema.safetensors", "optimizer.safetensors", "rng.safetensors"
SHARDS = (MODEL, AVERAGE, OPTIMIZER, RNG)
"""The files that a checkpoint must have, besides its manifest."""


@dataclass
class Counters:
    """What is no tensor. `step` None means that this process holds no state yet."""

    step: int | None = None
    samples_seen: int = 0
    made_in: int = 0
    """The generation in which the last step was made: two states are the same if step and made_in are."""
    optimizer_updates: int = 0
    ema_updates: int = 0
    scaler: dict[str, float | int] | None = None
    loss: float | None = None
    abandoned: list[str] = field(default_factory=list)
    """Digests of checkpoints that were passed over when this line began: none of them is an ancestor of it."""


@dataclass
class TrainingState:
    """Model, optimizer and average of one process, with the counters that go with them."""

    model: Denoiser
    optimizer: torch.optim.AdamW
    ema: EMA
    counters: Counters = field(default_factory=Counters)
    weights: dict[str, Tensor] = field(default_factory=dict)
    """The model's state dict by name; the tensors are the live ones."""
    torn: bool = False
    """The tensors may be neither those of step 0 nor all of one later step; there are no counters then."""

    @property
    def step(self) -> int:
        """Optimizer steps done. Only for a state that was started, loaded or received."""
        if self.counters.step is None:
            raise RuntimeError("this process holds no state yet")
        return self.counters.step

    def shards(self) -> dict[str, dict[str, Tensor]]:
        """The replicated tensors by shard file and name."""
        moments: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters():
            slots = self.optimizer.state[parameter]
            moments[f"exp_avg.{name}"] = slots["exp_avg"]
            moments[f"exp_avg_sq.{name}"] = slots["exp_avg_sq"]
        return {MODEL: self.weights, AVERAGE: self.ema.weights, OPTIMIZER: moments}

    def tensors(self) -> list[Tensor]:
        """All replicated tensors, in the same order on every rank."""
        return [tensor for _name, shard in sorted(self.shards().items()) for _key, tensor in sorted(shard.items())]

    def checksum(self) -> float:
        """A number that differs when weights differ: their sums, weighted by position. Equal for equal states."""
        return float(sum((index + 1) * tensor.double().sum() for index, tensor in enumerate(self.weights.values())))

    def check_live(self) -> None:
        """Raise RuntimeError if `weights` are not the memory that the model trains: average and snapshots read them."""
        for name, tensor in self.model.state_dict().items():
            if tensor.data_ptr() != self.weights[name].data_ptr():
                raise RuntimeError(f"{name} was moved away from the training state")

    def apply_counters(self, counters: Counters) -> None:
        """Take over counters that came with tensors of the same step."""
        self.counters, self.torn = counters, False
        self.ema.updates = counters.ema_updates
        for slots in self.optimizer.state.values():
            slots["step"].fill_(counters.optimizer_updates)

    def tear(self) -> None:
        """Hold no state from now on, since the tensors are about to be overwritten by those of another process."""
        self.counters, self.torn = Counters(), True

    def begin(self, config: RunConfig) -> None:
        """Stand at step 0 of this run, whatever the tensors were before."""
        if self.torn:
            fresh = build_state(config, next(self.model.parameters()).device)
            with torch.no_grad():
                for tensor, initial in zip(self.tensors(), fresh.tensors(), strict=True):
                    tensor.copy_(initial)
        self.apply_counters(Counters(step=0))

    def load_tensors(self, folder: Path) -> None:
        """Read the shards of a verified checkpoint. Raises ValueError if their tensors are not those of this state."""
        for name, shard in self.shards().items():
            stored = load_file(folder / name)
            if problem := mismatch(shard, stored):
                raise ValueError(f"{name}: {problem}")
            with torch.no_grad():
                for key, tensor in shard.items():
                    tensor.copy_(stored[key])


def build_state(config: RunConfig, device: torch.device) -> TrainingState:
    """A model with the weights of step 0, its optimizer with empty moments, and its average. Raises ConfigRefused."""
    torch.manual_seed(config.training.seed)
    model = build_denoiser(config.model).to(device).train()
    spec = config.training.optimizer
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
    for parameter in model.parameters():
        # Made now and not at the first step, so that a checkpoint or a peer can fill them.
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    weights = dict(model.state_dict())
    return TrainingState(model, optimizer, EMA(weights, config.training.ema.decay), Counters(), weights)


def counters_from(checkpoint: VerifiedCheckpoint) -> Counters:
    """The counters that stand in a checkpoint's manifest."""
    manifest = checkpoint.manifest
    return Counters(
        step=manifest.step,
        samples_seen=manifest.samples_seen,
        made_in=0,
        optimizer_updates=manifest.optimizer.updates,
        ema_updates=manifest.ema.updates,
        scaler=manifest.scaler,
        loss=manifest.metrics.get("loss"),
    )
