"""Opening a model version: what is served, and every reason for which an engine refuses to start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffusion_contract.agent_messages import TerminationMessage
from diffusion_contract.model_reference import parse_model_reference
from diffusion_contract.run_config import DenoiserSpec, ModelSpec
from diffusion_contract.serving_config import EngineConfig, SamplingSpec, ServiceClass
from diffusion_core.model_folder import LoadedModel
from diffusion_server.measures import EngineMeasures
from diffusion_server.opening import OpeningRefusedError, open_engine, read_engine_config, served_model, warm_up
from diffusion_server.painter import ModelPainter
from diffusion_server.redraw import redraw
from optimal_denoiser import OptimalDenoiser
from serving_pods import BIN, CLAIM, MODEL_NAME, SAMPLING, publish_random_model, tiny_model
from tiny_models import BYTE_RANGE, COSINE, TEN_CLASSES, tiny_dit

FINAL = ServiceClass(name="final", steps=4)


def config_of(reference: str, sampling: SamplingSpec = SAMPLING) -> EngineConfig:
    return EngineConfig(
        service="digits", namespace="default", revision="r1", model=reference, sampling=sampling, max_batch=2
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A models directory, and the reference of the model version in it."""
    folder = tmp_path_factory.mktemp("published")
    return folder / "models", publish_random_model(folder / "models", folder)


def refusal(models: Path, config: EngineConfig, scratch: Path) -> OpeningRefusedError:
    with pytest.raises(OpeningRefusedError) as caught:
        open_engine(config, models, scratch, EngineMeasures())
    assert not list(scratch.iterdir()), "nothing is left in the scratch folder"
    return caught.value


def test_a_good_model_is_opened_warm_and_known(published: tuple[Path, str], tmp_path: Path) -> None:
    models, reference = published
    opened = open_engine(config_of(reference), models, tmp_path, EngineMeasures())
    opened.loop.stop()
    assert opened.model.size == "8x8"
    assert opened.model.classes == 10
    assert opened.model.digest == reference.split("@")[1]
    assert [rows for rows, _ in opened.times.points] == [1, 2]
    assert not list(tmp_path.iterdir()), "the unpacked copy is removed once it is loaded"


def test_warm_up_times_a_step_that_rows_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first steps of a strongly guided row are taken alone: by them a batch would be as slow as row after row."""
    loaded = LoadedModel(OptimalDenoiser(COSINE), tiny_dit(TEN_CLASSES), COSINE, BYTE_RANGE)
    painter = ModelPainter(loaded, "DDIM", torch.device("cpu"))
    passes: list[int] = []
    monkeypatch.setattr(painter, "_pass", lambda states: passes.append(len(states)))
    reference = "pvc://models/tiny@sha256:" + "1" * 64
    config = config_of(reference, SamplingSpec(sampler="DDIM", classes=(FINAL,), guidance_scale=7.5))
    warm_up(painter, config, served_model(loaded, parse_model_reference(reference)))
    assert passes == [1, 1, 1, 1, 2, 2, 2, 2]


def test_an_engine_that_cannot_use_its_gpu_ends_and_says_so(published: tuple[Path, str], tmp_path: Path) -> None:
    """It could draw on the CPU, a hundred times slower: nobody would know why."""
    models, reference = published
    config, words = tmp_path / "engine.json", tmp_path / "words"
    config.write_text(json.dumps(config_of(reference).to_wire()))
    serve = [
        str(BIN / "diffusion-server"), "serve", "--config", str(config), "--models-directory", str(models),
        "--scratch-directory", str(tmp_path), "--termination-file", str(words), "--port", "0", "--metrics-port", "0",
    ]  # fmt: skip
    given = {"NVIDIA_VISIBLE_DEVICES": "GPU-1", "CUDA_VISIBLE_DEVICES": "99"}  # No machine has a hundred GPUs.
    ended = subprocess.run(serve, env=os.environ | given, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 1, ended.stderr
    said = TerminationMessage.model_validate_json(words.read_bytes())
    assert said.reason == "AcceleratorUnusable"
    assert "check the node's driver" in said.message


def test_a_batch_that_the_gpu_has_no_memory_for_is_refused(
    published: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB.")

    monkeypatch.setattr(ModelPainter, "step", out_of_memory)
    error = refusal(published[0], config_of(published[1]), tmp_path)
    assert (error.reason, error.path) == ("BatchTooLarge", "spec.batching.maxBatch")
    assert "a batch of 2 images: CUDA out of memory. Tried" in error.message


def test_rows_are_rounded_as_fp32_says_so_that_none_shows_in_another(
    published: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    models, reference = published
    opened = open_engine(config_of(reference), models, tmp_path, EngineMeasures())
    opened.loop.stop()
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_threads_that_wait_for_one_another_leave_the_cores_to_others(
    published: tuple[Path, str], tmp_path: Path
) -> None:
    """OpenMP reads it when torch is imported, so it is asked of a process of its own."""
    models, reference = published
    program = (
        "import sys; from pathlib import Path; from diffusion_server.opening import checked_reference, load_verified; "
        "assert 'torch' not in sys.modules; "
        "load_verified(checked_reference(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    asked = [sys.executable, "-c", program, reference, str(models), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    told = subprocess.run(
        asked, env=environment | {"OMP_DISPLAY_ENV": "true"}, capture_output=True, text=True, timeout=120, check=True
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told.stderr


def test_a_flipped_byte_is_refused_before_anything_is_parsed(tmp_path: Path) -> None:
    reference = publish_random_model(tmp_path / "models", tmp_path)
    layout = tmp_path / "models" / CLAIM / MODEL_NAME
    weights = max((layout / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    (tmp_path / "scratch").mkdir()
    error = refusal(tmp_path / "models", config_of(reference), tmp_path / "scratch")
    assert error.reason == "ModelDigestMismatch"
    assert error.path == "spec.model"


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("pvc://models/tiny@sha256:" + "1" * 64, "ModelNotFound"),
        ("pvc://models/none@sha256:" + "1" * 64, "ModelNotFound"),
        ("pvc://elsewhere/tiny@sha256:" + "1" * 64, "ModelNotFound"),
        ("pvc://models/tiny:latest", "ModelReferenceInvalid"),
    ],
)
def test_what_cannot_be_found_says_so(published: tuple[Path, str], tmp_path: Path, reference: str, reason: str) -> None:
    assert refusal(published[0], config_of(reference), tmp_path).reason == reason


@pytest.mark.parametrize(
    ("sampling", "path"),
    [
        (SamplingSpec(sampler="DDIM", classes=(FINAL,)), "spec.sampling"),
        (SamplingSpec(sampler="Euler", classes=(FINAL, ServiceClass(name="long", steps=1000))), None),
    ],
)
def test_a_sampler_that_does_not_fit_the_model_is_refused(
    published: tuple[Path, str], tmp_path: Path, sampling: SamplingSpec, path: str | None
) -> None:
    config = config_of(published[1], sampling)
    if path is None:
        open_engine(config, published[0], tmp_path, EngineMeasures()).loop.stop()
        return
    error = refusal(published[0], config, tmp_path)
    assert (error.reason, error.path) == ("SamplingRefused", path)
    assert "use Euler" in error.message


def test_guidance_without_classes_is_refused(tmp_path: Path) -> None:
    reference = publish_random_model(tmp_path / "models", tmp_path, tiny_model(classes=None))
    (tmp_path / "scratch").mkdir()
    error = refusal(tmp_path / "models", config_of(reference), tmp_path / "scratch")
    assert error.path == "spec.sampling.guidanceScale"


def test_a_model_whose_images_have_no_png_form_is_refused(tmp_path: Path) -> None:
    config = {"patch_size": 2, "hidden_size": 32, "depth": 1, "num_heads": 2}
    latent = ModelSpec(denoiser=DenoiserSpec(type="DiT", sample_size=8, channels=2, config=config))
    reference = publish_random_model(tmp_path / "models", tmp_path, latent)
    (tmp_path / "scratch").mkdir()
    assert refusal(tmp_path / "models", config_of(reference), tmp_path / "scratch").reason == "ModelNotServable"


@pytest.mark.parametrize("text", [None, "", "{", "[]", json.dumps({"service": "x", "colour": "red"})])
def test_a_configuration_that_is_missing_or_wrong_is_refused(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "engine.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(OpeningRefusedError, match="ConfigRefused"):
        read_engine_config(file)


def test_the_configuration_that_the_operator_writes_is_read(tmp_path: Path) -> None:
    config = config_of("pvc://models/tiny@sha256:" + "1" * 64)
    (tmp_path / "engine.json").write_text(json.dumps(config.to_wire()))
    assert read_engine_config(tmp_path / "engine.json") == config


def test_an_image_id_of_another_model_is_not_redrawn(published: tuple[Path, str], tmp_path: Path) -> None:
    from diffusion_server.image_id import image_id
    from diffusion_server.samples import Sample

    models, reference = published
    sample = Sample(seed=1, label=2, steps=2, guidance_scale=1.0, sampler="Euler")
    with pytest.raises(OpeningRefusedError, match="ModelDigestMismatch"):
        redraw(image_id("sha256:" + "9" * 64, sample), reference, models, tmp_path)
    assert redraw(image_id(reference.split("@")[1], sample), reference, models, tmp_path).startswith(b"\x89PNG")
