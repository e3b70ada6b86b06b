"""A model version needs none of our packages: the example reads the layout by OCI's words and draws with diffusers."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_contract.run_config import DiffusionSpec, ModelSpec
from diffusion_contract.serving_config import Sampler
from diffusion_core.model_folder import load_model_folder
from diffusion_core.samplers import generate
from diffusion_registry.image_layout import publish
from tiny_models import (
    BYTE_RANGE,
    EPSILON,
    FLOW,
    SHIFTED_FLOW,
    TEN_CLASSES,
    save_tiny_model,
    tiny_unet,
    version_config,
)

EXAMPLE = Path(__file__).parents[3] / "examples" / "draw_with_diffusers.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the example as a command, in this process."""
    spec = importlib.util.spec_from_file_location("draw_with_diffusers", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *map(str, arguments)])
        module.main()

    return run


@pytest.mark.parametrize(
    ("model", "diffusion", "sampler", "label", "guidance"),
    [
        (tiny_unet(TEN_CLASSES), FLOW, "Euler", 7, 2.0),
        (tiny_unet(TEN_CLASSES), SHIFTED_FLOW, "Euler", 0, 1.0),
        (tiny_unet(TEN_CLASSES), EPSILON, "DDIM", 3, 3.0),
        (tiny_unet(), EPSILON, "DDIM", None, 1.0),
    ],
)
def test_diffusers_alone_draws_the_picture_of_the_same_seed(
    tmp_path: Path,
    example: Callable[..., None],
    model: ModelSpec,
    diffusion: DiffusionSpec,
    sampler: Sampler,
    label: int | None,
    guidance: float,
) -> None:
    save_tiny_model(tmp_path / "folder", model, diffusion)
    digest = publish(tmp_path / "folder", tmp_path / "layout", version_config(model, diffusion), "step-600")
    told = [] if label is None else ["--label", label]
    example(tmp_path / "layout", digest, tmp_path / "a.png", "--seed", 5, "--steps", 6, "--guidance", guidance, *told)
    loaded = load_model_folder(tmp_path / "folder")
    labels = None if label is None else [label]
    ours = generate(loaded.denoiser, model, diffusion, BYTE_RANGE, labels, [5], sampler, 6, guidance)
    with Image.open(tmp_path / "a.png") as theirs:
        drawn = torch.from_numpy(np.array(theirs))
    assert (drawn.int() - ours[0, 0].int()).abs().max() <= 1


def test_a_damaged_blob_is_not_drawn_from(tmp_path: Path, example: Callable[..., None]) -> None:
    save_tiny_model(tmp_path / "folder", tiny_unet(), EPSILON)
    digest = publish(tmp_path / "folder", tmp_path / "layout", version_config(tiny_unet(), EPSILON), "step-600")
    for blob in (tmp_path / "layout" / "blobs" / "sha256").iterdir():
        if blob.name != digest.removeprefix("sha256:"):
            blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(SystemExit, match="is damaged: fetch the model version again"):
        example(tmp_path / "layout", digest, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_the_example_needs_nothing_of_this_project() -> None:
    assert "diffusion_" not in EXAMPLE.read_text()
