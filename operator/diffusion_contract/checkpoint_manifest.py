"""MANIFEST.json: the last file of a checkpoint, whose presence under a final name is the commit.

It names every other file with its size and sha256, and carries all state that is no tensor. The digest of a
checkpoint is the sha256 of this file's bytes, so a parent's digest pins the whole chain before it.
"""

import json
from typing import Annotated, Final, Literal

from pydantic import Field

from diffusion_contract.agent_messages import CheckpointReference
from diffusion_contract.digest import sha256_of
from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.run_config import RunConfig, Sha256

MANIFEST_NAME = "MANIFEST.json"
FORMAT: Final = 1

Count = Annotated[int, Field(ge=0)]


class ShardFile(FrozenModel):
    """One safetensors file of the checkpoint: its size in bytes and the sha256 of its content."""

    size: Count
    sha256: Sha256


class DataPosition(FrozenModel):
    """Where the stateless sampler stands: the order of an epoch is a function of (seed, epoch) alone."""

    seed: Count
    epoch: Count
    offset: Count
    """Samples of this epoch that have been used, out of `dataset_size`."""
    dataset_size: Annotated[int, Field(gt=0)]
    dataset_digest: Sha256


class EMAState(FrozenModel):
    """The moving average besides its weights, which are a shard."""

    updates: Count
    decay: Annotated[float, Field(ge=0, lt=1)]


class OptimizerState(FrozenModel):
    """The optimizer besides its moments, which are a shard."""

    type: str
    updates: Count


class LearningRateState(FrozenModel):
    """The schedule's position; the rate follows from it, and stands here so that a reader can compare."""

    type: str
    step: Count
    learning_rate: Annotated[float, Field(ge=0)]


class CodeVersion(FrozenModel):
    """Which trainer wrote this: the distribution's version and the sha256 of the trainer's and the core's sources."""

    version: str
    digest: Sha256


class CheckpointManifest(FrozenModel):
    """All of a checkpoint that is no tensor, and the digests of all that is."""

    format: Literal[1] = FORMAT
    run_name: str
    run_uid: str
    attempt: Count
    generation: Count
    step: Count
    samples_seen: Count
    world_size: Annotated[int, Field(ge=1)]
    """Ranks whose random generators stand in the rng shard."""
    created: str
    """RFC 3339, UTC, of the moment before the commit."""
    files: dict[str, ShardFile]
    parent: Sha256 | None = None
    """Digest of the checkpoint that this run's line went on from, or None at its beginning."""
    config_digest: Sha256
    """`identity_digest` of the run's configuration."""
    noise_schedule: Sha256
    code: CodeVersion
    data: DataPosition
    ema: EMAState
    optimizer: OptimizerState
    learning_rate: LearningRateState
    scaler: dict[str, float | int] | None = None
    """The gradient scaler's state under FP16; None without one."""
    metrics: dict[str, float] = Field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The exact content of MANIFEST.json."""
        return (json.dumps(self.to_wire(), sort_keys=True, indent=1) + "\n").encode()

    def reference(self) -> CheckpointReference:
        """Name the checkpoint as reports do."""
        return CheckpointReference(step=self.step, digest=sha256_of(self.to_bytes()), time=self.created)


def parse_manifest(content: bytes) -> CheckpointManifest:
    """Parse MANIFEST.json; raises ValueError for anything that is not exactly what `to_bytes` writes."""
    manifest = CheckpointManifest.model_validate_json(content)
    if manifest.to_bytes() != content:
        raise ValueError("the manifest is not in its canonical form")
    return manifest


def run_digest(config: RunConfig) -> str:
    """Digest of a whole run configuration, also of what may change while the run has checkpoints."""
    return sha256_of(json.dumps(config.to_wire(), sort_keys=True).encode())


def identity_digest(config: RunConfig) -> str:
    """Digest of what must not change while a run has checkpoints.

    That is model, diffusion, dataset, seed, batch, optimizer and precision. Target steps, learning rate, interval,
    retention and publication are left out: a run may go on with others. So are defaults: a field that a later version
    adds must not tell a run from itself.
    """
    training = config.training
    kept = {
        "model": config.model.without_defaults(),
        "diffusion": config.diffusion.without_defaults(),
        "dataset": config.dataset.without_defaults(),
        "seed": training.seed,
        "globalBatchSize": training.global_batch_size,
        "optimizer": training.optimizer.type,
        "precision": training.precision,
    }
    return sha256_of(json.dumps(kept, sort_keys=True).encode())
