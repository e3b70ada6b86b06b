"""What a published model version says about itself: the config blob of its OCI artifact, and the names around it.

The blob answers where the weights come from without a look at the weights: dataset, run, configuration, checkpoint,
code. It is covered by the manifest's digest, so a reference `...@sha256:HEX` pins all of it.
"""

from typing import Annotated

from pydantic import Field

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.run_config import DiffusionSpec, ModelSpec, Sha256, TrainingSpec

ARTIFACT_TYPE = "application/vnd.diffusion.model.v1"
CONFIG_MEDIA_TYPE = "application/vnd.diffusion.model.config.v1+json"

FILE_MEDIA_TYPES = {
    ".safetensors": "application/vnd.diffusion.model.weights.v1.safetensors",
    ".json": "application/vnd.diffusion.model.settings.v1+json",
    ".md": "application/vnd.diffusion.model.card.v1+markdown",
}
"""The kinds of files that a model version may hold, by suffix. Code and pickles have no place in it."""


class DatasetLineage(FrozenModel):
    """The data that the run learned from; `digest` is the one that was measured, also where the spec gave none."""

    uri: str
    digest: Sha256
    samples: Annotated[int, Field(gt=0)]


class RunLineage(FrozenModel):
    """The DiffusionTraining by name and UID, its configuration, and the version of our code."""

    name: str
    namespace: str
    uid: str
    config_digest: Sha256
    """`run_digest` of the whole run configuration: every field of it."""
    training: TrainingSpec
    """How it was trained: target, batch, seed, optimizer, learning rate, average, precision."""
    code_version: str


class CheckpointLineage(FrozenModel):
    """The checkpoint that the weights were taken from: its step, and the sha256 of its MANIFEST.json."""

    step: Annotated[int, Field(ge=0)]
    digest: Sha256


class Lineage(FrozenModel):
    """From dataset to weights. `metrics` are the run's last measurements by name (loss, for one)."""

    dataset: DatasetLineage
    run: RunLineage
    checkpoint: CheckpointLineage
    samples_seen: Annotated[int, Field(ge=0)]
    metrics: dict[str, float] = Field(default_factory=dict)


class ModelVersionConfig(FrozenModel):
    """The config blob. `created` (RFC 3339, UTC) is given by the publisher: the same input gives the same digest."""

    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]
    model: ModelSpec
    diffusion: DiffusionSpec
    lineage: Lineage
    license: str | None = None
    intended_use: str | None = None
