"""Snapshots at an agreed step: every rank gives its random generators, one rank writes the replicated state."""

import torch
from torch import Tensor

from diffusion_trainer import rng
from diffusion_trainer.group import Group
from diffusion_trainer.live_config import LiveConfig
from diffusion_trainer.manifest_of import manifest_of
from diffusion_trainer.saver import Saver
from diffusion_trainer.settings import Settings
from diffusion_trainer.training_loop import Data
from diffusion_trainer.training_state import TrainingState


class Snapshots:
    """Takes snapshots of one process's state and hands them to its saver."""

    def __init__(self, settings: Settings, live: LiveConfig, data: Data, saver: Saver, state: TrainingState) -> None:
        self.settings, self.live, self.data, self.saver, self.state = settings, live, data, saver, state

    def take(
        self, group: Group, target: int, writer: int = 0, urgent: bool = True, patience: float | None = None
    ) -> None:
        """Collective: gather all ranks' generators, and let the rank `writer` save this step on the way to `target`.

        One that is not `urgent` is written at a lower priority than that of the training which goes on. `patience`: for
        how many seconds it may wait for the save before; None for as long as a worker that leaves.
        """
        rows = group.gather_bytes(rng.capture())
        if group.rank == writer:
            self.write(rows, group.generation, group.world, target, urgent, patience)

    def take_alone(self, generation: int) -> None:
        """Save without the others, who may be gone: with this rank's generators only."""
        self.write(rng.capture()[None], max(1, generation), 1, self.live.current.training.target_steps)

    def write(
        self,
        rng_rows: Tensor,
        generation: int,
        world: int,
        target: int,
        urgent: bool = True,
        patience: float | None = None,
    ) -> None:
        """Snapshot the state with these generators (uint8 [world, n]) unless this very step is safe already."""
        counters = self.state.counters
        committed = self.saver.committed
        if committed is not None and committed.step == counters.step:
            return
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        config = self.live.refresh()
        manifest = manifest_of(counters, config, self.data, self.settings.attempt, generation, world, target)
        wait = self.settings.leave_seconds if patience is None else patience
        self.saver.save(self.state, manifest, rng_rows, config.checkpoint.retain.last, urgent, wait)
