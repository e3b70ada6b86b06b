"""Same seed, same image: alone, in any crowd, joining at any step. The core's whole-batch loop is the reference."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_contract.run_config import DiffusionSpec
from diffusion_contract.serving_config import Sampler
from diffusion_core.model_folder import LoadedModel, load_model_folder
from diffusion_core.samplers import generate
from diffusion_server.painter import ModelPainter, RowState
from diffusion_server.picture import to_png
from diffusion_server.samples import Sample
from optimal_denoiser import OptimalDenoiser
from serving_pods import FLOW, save_random_model, tiny_model
from tiny_models import BYTE_RANGE, COSINE, EPSILON, TEN_CLASSES, tiny_dit

TOLERANCE = 2e-5
"""Largest difference between latents drawn alone and in a crowd, in units of the model's range -1..1 (fp32): the
kernels of different batch sizes add up in different orders. After quantisation it is at most one grey level."""

KINDS: list[tuple[Sampler, DiffusionSpec]] = [("Euler", FLOW), ("DDIM", DiffusionSpec())]


@pytest.fixture(scope="module", params=KINDS, ids=["Euler", "DDIM"])
def painter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelPainter:
    sampler, diffusion = request.param
    folder = tmp_path_factory.mktemp(f"model-{sampler}")
    save_random_model(folder, tiny_model(), diffusion)
    return ModelPainter(load_model_folder(folder), sampler, torch.device("cpu"))


def draw_alone(painter: ModelPainter, sample: Sample) -> RowState:
    state = painter.begin(sample)
    for _ in range(sample.steps):
        painter.step([state])
    return state


def sample_number(number: int, painter: ModelPainter) -> Sample:
    """Different steps, guidance (1 included, which takes one network row instead of two) and labels."""
    guidance = (1.0, 2.0, 0.0, 7.5)[number % 4]
    return Sample(seed=number, label=number % 10, steps=3 + number % 5, guidance_scale=guidance, sampler="Euler")


def test_alone_or_in_a_crowd_joining_at_any_step(painter: ModelPainter) -> None:
    samples = [sample_number(number, painter) for number in range(12)]
    alone = [draw_alone(painter, sample) for sample in samples]
    crowd: dict[int, RowState] = {}
    done: dict[int, RowState] = {}
    tick = 0
    while len(done) < len(samples):
        if tick < len(samples):
            crowd[tick] = painter.begin(samples[tick])  # one joins at every tick
        painter.step(list(crowd.values()))
        for number in [number for number, row in crowd.items() if row.position == samples[number].steps]:
            done[number] = crowd.pop(number)
        tick += 1
    worst = max(float((done[number].latent - alone[number].latent).abs().max()) for number in done)
    assert worst <= TOLERANCE
    for number, row in done.items():
        pairs = zip(painter.finish(row), painter.finish(alone[number]), strict=True)
        assert max(abs(one - other) for one, other in pairs) <= 1


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0, 7.5, 50.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 20])
@pytest.mark.parametrize(("sampler", "diffusion"), [("DDIM", COSINE), ("DDIM", EPSILON), ("Euler", FLOW)])
def test_a_network_that_has_converged_draws_the_same_alone_and_in_a_crowd(
    sampler: Sampler, diffusion: DiffusionSpec, steps: int, guidance: float
) -> None:
    """Where there is only noise it answers with its own input, and a sampler may amplify its last digits."""
    loaded = LoadedModel(OptimalDenoiser(diffusion), tiny_dit(TEN_CLASSES), diffusion, BYTE_RANGE)
    painter = ModelPainter(loaded, sampler, torch.device("cpu"))
    samples = [Sample(number, number % 10, steps, guidance, sampler) for number in range(12)]
    alone = [draw_alone(painter, sample) for sample in samples]
    crowd = [painter.begin(sample) for sample in samples]
    for _ in range(steps):
        painter.step(crowd)
    pictures = [[torch.tensor(list(painter.finish(row))) for row in rows] for rows in (alone, crowd)]
    assert max(int((one - other).abs().max()) for one, other in zip(*pictures, strict=True)) <= 1


def test_only_a_step_that_amplifies_is_taken_alone(painter: ModelPainter, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    monkeypatch.setattr(painter, "_pass", lambda states: passes.append(len(states)))
    rows = [painter.begin(Sample(number, 3, 20, 2.0, painter._sampler)) for number in range(4)]
    painter.step(rows)
    assert passes == [4]
    passes.clear()
    rows += [painter.begin(Sample(9, 3, 20, 50.0, painter._sampler))]
    painter.step(rows)
    assert passes == ([1, 4] if painter._sampler == "DDIM" else [5])
    painter.step([])


def test_the_step_loop_draws_what_the_reference_draws(painter: ModelPainter) -> None:
    loaded: LoadedModel = painter._loaded
    expected = generate(
        loaded.denoiser, loaded.model, loaded.diffusion, loaded.normalization, [3], [11], painter._sampler, 6, 2.0
    )
    state = draw_alone(painter, Sample(11, 3, 6, 2.0, painter._sampler))
    drawn = torch.frombuffer(bytearray(painter.finish(state)), dtype=torch.uint8).view(1, 1, 8, 8)
    assert int((drawn.int() - expected.int()).abs().max()) <= 1


def test_seed_label_guidance_and_steps_all_matter(painter: ModelPainter) -> None:
    base = Sample(1, 3, 4, 2.0, "Euler")
    changes: list[dict[str, Any]] = [{"seed": 2}, {"label": 4}, {"guidance_scale": 4.0}, {"steps": 5}]
    others = [dataclasses.replace(base, **change) for change in changes]
    picture = painter.finish(draw_alone(painter, base))
    assert painter.finish(draw_alone(painter, base)) == picture
    assert all(painter.finish(draw_alone(painter, other)) != picture for other in others)


def test_a_latent_that_ran_away_is_not_shown_as_a_picture(painter: ModelPainter) -> None:
    state = painter.begin(Sample(1, 3, 4, 2.0, "Euler"))
    state.latent[0, 0, 0] = math.nan
    with pytest.raises(RuntimeError, match="not finite"):
        painter.finish(state)


def test_an_unconditional_model_needs_no_labels(tmp_path: Path) -> None:
    save_random_model(tmp_path, tiny_model(classes=None))
    painter = ModelPainter(load_model_folder(tmp_path), "Euler", torch.device("cpu"))
    assert len(painter.finish(draw_alone(painter, Sample(1, None, 2, 1.0, "Euler")))) == 64


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_same_pixels_give_the_same_png(channels: int) -> None:
    import io

    from PIL import Image

    raw = bytes(range(4 * 2 * channels))
    png = to_png(raw, width=4, height=2)
    assert png == to_png(raw, width=4, height=2)
    image = Image.open(io.BytesIO(png))
    assert image.size == (4, 2)
    assert image.tobytes() == raw
    assert not image.info
