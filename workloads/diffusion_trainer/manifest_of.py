"""The manifest of the state that a process holds, before its shards have been written."""

from datetime import UTC, datetime

from diffusion_contract.checkpoint_manifest import (
    CheckpointManifest,
    DataPosition,
    EMAState,
    LearningRateState,
    OptimizerState,
    identity_digest,
)
from diffusion_contract.run_config import RunConfig
from diffusion_core.schedules import noise_schedule_hash
from diffusion_trainer.code_version import code_version
from diffusion_trainer.learning_rate import learning_rate
from diffusion_trainer.refusal import ConfigurationRefused
from diffusion_trainer.training_loop import Data
from diffusion_trainer.training_state import Counters


def manifest_of(
    counters: Counters, config: RunConfig, data: Data, attempt: int, generation: int, world: int, target: int
) -> CheckpointManifest:
    """Everything but files and parent, which the writer fills in."""
    step = counters.step or 0
    epoch, offset = divmod(counters.samples_seen, len(data.dataset))
    return CheckpointManifest(
        run_name=config.name,
        run_uid=config.uid,
        attempt=attempt,
        generation=generation,
        step=step,
        samples_seen=counters.samples_seen,
        world_size=world,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        files={},
        config_digest=identity_digest(config),
        noise_schedule=noise_schedule_hash(config.diffusion),
        code=code_version(),
        data=DataPosition(
            seed=config.training.seed,
            epoch=epoch,
            offset=offset,
            dataset_size=len(data.dataset),
            dataset_digest=data.dataset.digest,
        ),
        ema=EMAState(updates=counters.ema_updates, decay=config.training.ema.decay),
        optimizer=OptimizerState(type=config.training.optimizer.type, updates=counters.optimizer_updates),
        learning_rate=LearningRateState(
            type=config.training.learning_rate_schedule.type,
            step=step,
            learning_rate=learning_rate(step, config.training, target),
        ),
        scaler=dict(counters.scaler) if counters.scaler is not None else None,
        metrics={} if counters.loss is None else {"loss": counters.loss},
    )


def refuse_other_run(manifest: CheckpointManifest, config: RunConfig, data: Data) -> None:
    """Raise ConfigurationRefused if a checkpoint's state does not belong to this configuration."""
    remedy = "these fields cannot change in a run that has checkpoints: create another DiffusionTraining"
    if manifest.noise_schedule != noise_schedule_hash(config.diffusion):
        raise ConfigurationRefused(
            "spec.diffusion", f"the checkpoint was trained with another noise schedule; {remedy}"
        )
    if manifest.data.dataset_digest != data.dataset.digest:
        raise ConfigurationRefused(
            "spec.dataset",
            f"the checkpoint was trained on {manifest.data.dataset_digest}, this is {data.dataset.digest}; {remedy}",
        )
    if manifest.config_digest != identity_digest(config):
        raise ConfigurationRefused(
            "spec", f"the checkpoint is of another model, dataset.uri, seed, batch, optimizer or precision; {remedy}"
        )
