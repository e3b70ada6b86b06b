"""Model folders: what is saved is loaded, diffusers reads it too, and each broken file is refused by name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from diffusion_contract.run_config import DiffusionSpec, ModelSpec
from diffusion_core.model_folder import ModelFolderRefused, load_model_folder, save_model_folder
from diffusion_core.normalization import Normalization
from diffusion_core.samplers import generate, initial_noise, sampler_table
from tiny_models import (
    BYTE_RANGE,
    COSINE,
    EPSILON,
    FLOW,
    SHIFTED_FLOW,
    TEN_CLASSES,
    save_tiny_model,
    tiny_dit,
    tiny_unet,
    weights_of,
)

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("model", "diffusion"),
    [
        (tiny_unet(), EPSILON),
        (tiny_unet(TEN_CLASSES), SHIFTED_FLOW),
        (tiny_dit(), COSINE),
        (tiny_dit(TEN_CLASSES), FLOW),
    ],
)
def test_what_is_saved_is_loaded(tmp_path: Path, model: ModelSpec, diffusion: DiffusionSpec) -> None:
    save_tiny_model(tmp_path / "model", model, diffusion)
    loaded = load_model_folder(tmp_path / "model")
    assert (loaded.model, loaded.diffusion, loaded.normalization) == (model, diffusion, BYTE_RANGE)
    expected = weights_of(model)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.denoiser.state_dict().items())
    assert not loaded.denoiser.training
    assert not any(weight.requires_grad for weight in loaded.denoiser.parameters())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    model, weights = tiny_unet(TEN_CLASSES), weights_of(tiny_unet(TEN_CLASSES))
    save_model_folder(tmp_path / "one", weights, model, FLOW, BYTE_RANGE)
    backwards = dict(reversed(weights.items()))
    save_model_folder(tmp_path / "two", backwards, model, FLOW, BYTE_RANGE)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_weights_are_stored_in_fp32(tmp_path: Path) -> None:
    halves = {name: tensor.bfloat16() for name, tensor in weights_of(tiny_unet()).items()}
    save_model_folder(tmp_path, halves, tiny_unet(), FLOW, BYTE_RANGE)
    assert {tensor.dtype for tensor in load_file(tmp_path / UNET_WEIGHTS).values()} == {torch.float32}


def test_the_folder_is_laid_out_as_diffusers_does(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, tiny_unet(TEN_CLASSES))
    assert sorted(bytes_of(tmp_path)) == [
        "diffusion.json",
        "model_index.json",
        "normalization.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        UNET_WEIGHTS,
    ]
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    assert index["scheduler"] == ["diffusers", "FlowMatchEulerDiscreteScheduler"]


@pytest.mark.parametrize("model", [tiny_unet(), tiny_unet(TEN_CLASSES)])
def test_diffusers_loads_the_unet(tmp_path: Path, model: ModelSpec) -> None:
    save_tiny_model(tmp_path, model)
    theirs = UNet2DModel.from_pretrained(tmp_path, subfolder="unet").eval()
    ours = load_model_folder(tmp_path).denoiser
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3.0, 700.0])
    labels = None if model.conditioning.classes is None else torch.tensor([2, 7])
    with torch.no_grad():
        torch.testing.assert_close(theirs(x, t, labels).sample, ours(x, t, labels), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("diffusion", "apart"), [(EPSILON, 0), (COSINE, 3)])
def test_diffusers_loads_a_ddim_scheduler_with_our_times(tmp_path: Path, diffusion: DiffusionSpec, apart: int) -> None:
    """The cosine schedule ends with 3 times at which nothing of a sample is left: ours begins before them."""
    save_tiny_model(tmp_path, tiny_unet(), diffusion)
    scheduler = DDIMScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    scheduler.set_timesteps(20)
    difference = scheduler.timesteps - sampler_table("DDIM", 20, diffusion).timesteps
    assert difference[0] == apart
    assert difference.min() >= 0
    assert difference.max() <= apart


def test_diffusers_loads_a_flow_scheduler_with_our_shift(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, tiny_unet(), SHIFTED_FLOW)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path, subfolder="scheduler")
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    torch.testing.assert_close(scheduler.timesteps, sampler_table("Euler", 4, SHIFTED_FLOW).timesteps)


def test_an_unconditional_epsilon_model_is_a_whole_pipeline_of_diffusers(tmp_path: Path) -> None:
    """The pipeline draws the picture that our engine draws from the same noise."""
    save_tiny_model(tmp_path, tiny_unet(), EPSILON)
    pipeline = DDIMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    loaded = load_model_folder(tmp_path)
    ours = generate(loaded.denoiser, loaded.model, loaded.diffusion, BYTE_RANGE, None, [5], "DDIM", 4)
    x = initial_noise(5, loaded.model).unsqueeze(0)
    pipeline.scheduler.set_timesteps(4)
    with torch.no_grad():
        for t in pipeline.scheduler.timesteps:
            out = pipeline.unet(x, t).sample
            x = pipeline.scheduler.step(out, t, x, use_clipped_model_output=True).prev_sample
    assert (BYTE_RANGE.to_uint8(x).int() - ours.int()).abs().max() <= 1


# --- refusals ----------------------------------------------------------------------------------------------------


def test_weights_of_another_network_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit the spec's DiT"):
        save_model_folder(tmp_path, weights_of(tiny_unet()), tiny_dit(), FLOW, BYTE_RANGE)
    smaller = weights_of(tiny_unet())
    smaller["network.conv_in.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"network.conv_in.weight has shape \[1\] instead of \[4, 1, 3, 3\]"):
        save_model_folder(tmp_path, smaller, tiny_unet(), FLOW, BYTE_RANGE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to copy and to damage."""
    folder = tmp_path_factory.mktemp("saved")
    save_tiny_model(folder, tiny_unet())
    return folder


def edit(file: str, **changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return apply


def truncate(file: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / file, (folder / file).stat().st_size - 100)


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / UNET_WEIGHTS)
    del weights["conv_in.weight"]
    save_file(weights, folder / UNET_WEIGHTS)


def save_a_picklelike_file(folder: Path) -> None:
    (folder / UNET_WEIGHTS).write_bytes(b"\x80\x04\x95not a safetensors file")


@pytest.mark.parametrize(
    ("damage", "file", "why"),
    [
        (remove("diffusion.json"), "diffusion.json", "cannot be read"),
        (remove("normalization.json"), "normalization.json", "cannot be read"),
        (remove(UNET_WEIGHTS), UNET_WEIGHTS, "cannot be read"),
        (truncate("diffusion.json"), "diffusion.json", "publish the model again"),
        (truncate("model_index.json"), "model_index.json", "is not JSON"),
        (truncate(UNET_WEIGHTS), UNET_WEIGHTS, "not a whole safetensors file"),
        (save_a_picklelike_file, UNET_WEIGHTS, "not a whole safetensors file"),
        (drop_a_weight, UNET_WEIGHTS, "conv_in.weight is missing"),
        (edit("diffusion.json", surprise=1), "diffusion.json", "surprise"),
        (edit("diffusion.json", noiseScheduleHash="sha256:" + "0" * 64), "diffusion.json", "noiseScheduleHash"),
        (edit("normalization.json", minimum=[0, 0], maximum=[1, 1]), "normalization.json", "1 channels"),
        (edit("model_index.json", unet=["my_code", "Evil"]), "model_index.json", "not allowed"),
        (edit("model_index.json", extra=["os", "system"]), "model_index.json", "not allowed"),
        (edit("model_index.json", _class_name="StableDiffusionPipeline"), "model_index.json", "not allowed"),
    ],
)
def test_a_broken_folder_is_refused_by_the_file(
    saved: Path, tmp_path: Path, damage: Callable[[Path], None], file: str, why: str
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    damage(folder)
    with pytest.raises(ModelFolderRefused) as caught:
        load_model_folder(folder)
    assert caught.value.file == file
    assert why in caught.value.why


def test_a_network_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, tiny_unet())
    path = tmp_path / "diffusion.json"
    document = json.loads(path.read_text())
    document["model"]["denoiser"]["config"]["act_fn"] = "nonsense"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelFolderRefused, match="act_fn"):
        load_model_folder(tmp_path)


def test_another_version_of_diffusers_in_the_index_is_no_reason_to_refuse(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, tiny_unet())
    edit("model_index.json", _diffusers_version="0.50.0")(tmp_path)
    load_model_folder(tmp_path)


def test_channels_are_checked_against_the_normalization(tmp_path: Path) -> None:
    two = Normalization(minimum=(0.0, 0.0), maximum=(1.0, 1.0))
    with pytest.raises(ValueError, match="2 channels"):
        save_model_folder(tmp_path, weights_of(tiny_unet()), tiny_unet(), FLOW, two)
