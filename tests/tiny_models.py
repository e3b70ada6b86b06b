"""Specs, networks and model versions that are small enough for a unit test: 8x8 pixels, a few thousand weights."""

from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from diffusion_contract.model_version import (
    CheckpointLineage,
    DatasetLineage,
    Lineage,
    ModelVersionConfig,
    RunLineage,
)
from diffusion_contract.run_config import (
    ConditioningSpec,
    DenoiserSpec,
    DiffusionSpec,
    ModelSpec,
    ScheduleSpec,
    TrainingSpec,
)
from diffusion_core.denoisers import assemble_denoiser
from diffusion_core.model_folder import save_model_folder
from diffusion_core.normalization import Normalization

torch.set_num_threads(1)

TINY_UNET: dict[str, JsonValue] = {"block_out_channels": [4, 8], "attention_head_dim": 4}
TINY_DIT: dict[str, JsonValue] = {"hidden_size": 8, "depth": 2, "num_heads": 2}

EPSILON = DiffusionSpec(schedule=ScheduleSpec(type="Linear"), prediction="Epsilon")
COSINE = DiffusionSpec(schedule=ScheduleSpec(type="Cosine"), prediction="Epsilon")
FLOW = DiffusionSpec(schedule=ScheduleSpec(type="FlowMatching"), prediction="Flow")
SHIFTED_FLOW = DiffusionSpec(schedule=ScheduleSpec(type="FlowMatching", shift=3.0), prediction="Flow")

UNCONDITIONAL = ConditioningSpec()
TEN_CLASSES = ConditioningSpec(type="Class", classes=10, dropout=0.5)

BYTE_RANGE = Normalization(minimum=(0.0,), maximum=(255.0,))
SOME_DIGEST = "sha256:" + "5" * 64


def tiny_unet(conditioning: ConditioningSpec = UNCONDITIONAL, size: int = 8) -> ModelSpec:
    """A UNet2DModel of 4 and 8 channels."""
    return ModelSpec(denoiser=DenoiserSpec(sample_size=size, config=TINY_UNET), conditioning=conditioning)


def tiny_dit(conditioning: ConditioningSpec = UNCONDITIONAL, size: int = 8) -> ModelSpec:
    """A DiT of two blocks and width 8."""
    return ModelSpec(denoiser=DenoiserSpec(type="DiT", sample_size=size, config=TINY_DIT), conditioning=conditioning)


def weights_of(model: ModelSpec) -> dict[str, Tensor]:
    """The same weights each time, none of them zero, so that every part of a network shows."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in assemble_denoiser(model).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in shapes.items()}


def save_tiny_model(folder: Path, model: ModelSpec, diffusion: DiffusionSpec = FLOW) -> None:
    """A model folder with the weights of `weights_of`."""
    save_model_folder(folder, weights_of(model), model, diffusion, BYTE_RANGE)


def version_config(model: ModelSpec | None = None, diffusion: DiffusionSpec = FLOW) -> ModelVersionConfig:
    """A config blob with every optional field set."""
    return ModelVersionConfig(
        created="2026-01-02T03:04:05Z",
        model=model or tiny_dit(),
        diffusion=diffusion,
        license="Apache-2.0",
        intended_use="Tests.",
        lineage=Lineage(
            dataset=DatasetLineage(uri="builtin://digits", digest=SOME_DIGEST, samples=1797),
            run=RunLineage(
                name="digits",
                namespace="default",
                uid="u-1",
                config_digest=SOME_DIGEST,
                training=TrainingSpec(target_steps=600),
                code_version="0.1.0",
            ),
            checkpoint=CheckpointLineage(step=600, digest=SOME_DIGEST),
            samples_seen=38_400,
            metrics={"loss": 0.4},
        ),
    )
