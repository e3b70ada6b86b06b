"""Ranges, averages and hashes on values that nobody thought of."""

import math

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from diffusion_contract.run_config import DiffusionSpec, ScheduleSpec
from diffusion_core.ema import EMA
from diffusion_core.normalization import measure_normalization
from diffusion_core.schedules import alphas_cumprod, noise_schedule_hash, shift_time

SIDES = st.integers(1, 4)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 3), SIDES, SIDES)


@settings(deadline=None, max_examples=60)
@given(st.data(), SHAPES)
def test_measured_datasets_fill_the_models_range_and_come_back(data: st.DataObject, shape: tuple[int, ...]) -> None:
    pixels = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-1000, 1000, width=32)))
    span = np.ptp(pixels, axis=(0, 2, 3))
    assume(((span == 0) | (span > 1e-3)).all())
    normalization = measure_normalization(pixels)
    x = normalization.to_model(pixels)
    assert x.abs().max() <= 1 + 1e-4
    assert np.allclose(normalization.to_pixels(x).numpy(), pixels, atol=2e-3)
    shown = normalization.to_uint8(x)
    assert torch.equal(shown == 255, x >= 1 - 1 / 255) or (shown.float() / 127.5 - 1 - x).abs().max() < 0.01


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.uint8, SHAPES))
def test_bytes_come_back_as_they_were(pixels: np.ndarray) -> None:
    normalization = measure_normalization(pixels)
    assert np.array_equal(normalization.to_uint8(normalization.to_model(pixels)).numpy(), pixels)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(0, 0.9999), st.integers(0, 29))
def test_an_average_stays_within_what_it_saw_and_may_be_interrupted(
    values: list[float], decay: float, stop: int
) -> None:
    ema = EMA({"a": torch.tensor([values[0]])}, decay)
    for n, value in enumerate(values):
        if n == stop:  # saved and restored here
            ema = EMA(ema.weights, ema.decay, ema.updates)
        ema.update({"a": torch.tensor([value])})
    unbroken = EMA({"a": torch.tensor([values[0]])}, decay)
    for value in values:
        unbroken.update({"a": torch.tensor([value])})
    assert torch.equal(ema.weights["a"], unbroken.weights["a"])
    assert min(values) - 1e-4 <= ema.weights["a"].item() <= max(values) + 1e-4


@given(st.floats(0, 1), st.floats(0.01, 100))
def test_a_shift_is_undone_by_its_inverse(s: float, shift: float) -> None:
    assert math.isclose(shift_time(shift_time(s, shift), 1 / shift), s, abs_tol=1e-6)
    assert 0 <= shift_time(s, shift) <= 1 + 1e-12


@settings(deadline=None, max_examples=60)
@given(
    st.integers(10, 2000),
    st.floats(1e-6, 0.5),
    st.floats(1e-6, 0.5),
    st.sampled_from(["Linear", "Cosine"]),
)
def test_levels_fall_and_hashes_agree_exactly_when_the_levels_do(
    timesteps: int, one: float, other: float, kind: str
) -> None:
    assume(one != other)
    start, end = sorted([one, other])
    betas = {"betaStart": start, "betaEnd": end} if kind == "Linear" else {}
    spec = ScheduleSpec.model_validate({"type": kind, "timesteps": timesteps, **betas})
    levels = alphas_cumprod(spec)
    assert len(levels) == timesteps
    assert levels.min() >= 0
    assert levels.max() < 1
    assert (levels.diff() <= 0).all()
    change = {"beta_end": min(end * 1.5, 0.9)} if kind == "Linear" else {"timesteps": timesteps + 1}
    changed = spec.model_copy(update=change)
    same, other_hash = (noise_schedule_hash(DiffusionSpec(schedule=one)) for one in (spec.model_copy(), changed))
    assert same == noise_schedule_hash(DiffusionSpec(schedule=spec)) != other_hash
    assert not torch.equal(levels, alphas_cumprod(changed))
