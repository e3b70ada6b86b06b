"""Schedules against their papers' end points and against diffusers."""

import pytest
import torch
from diffusers import DDPMScheduler

from diffusion_contract.run_config import DiffusionSpec, ScheduleSpec
from diffusion_core.schedules import alphas_cumprod, noise_schedule_hash, shift_time
from tiny_models import COSINE, EPSILON, FLOW, SHIFTED_FLOW


@pytest.mark.parametrize(("ours", "theirs"), [("Linear", "linear"), ("Cosine", "squaredcos_cap_v2")])
@pytest.mark.parametrize("timesteps", [10, 1000])
def test_levels_are_those_of_diffusers(ours: str, theirs: str, timesteps: int) -> None:
    oracle = DDPMScheduler(num_train_timesteps=timesteps, beta_schedule=theirs).alphas_cumprod
    levels = alphas_cumprod(ScheduleSpec.model_validate({"type": ours, "timesteps": timesteps}))
    assert levels.dtype == torch.float64
    torch.testing.assert_close(levels.float(), oracle, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("schedule", [EPSILON.schedule, COSINE.schedule])
def test_levels_fall_from_almost_one_to_almost_zero(schedule: ScheduleSpec) -> None:
    levels = alphas_cumprod(schedule)
    assert levels[0] > 0.999
    assert 0 < levels[-1] < 1e-4
    assert (levels.diff() < 0).all()


def test_betas_shape_the_linear_schedule() -> None:
    levels = alphas_cumprod(ScheduleSpec(beta_start=0.1, beta_end=0.2, timesteps=10))
    assert levels[0].item() == pytest.approx(0.9)
    assert (levels[9] / levels[8]).item() == pytest.approx(0.8)


def test_flow_matching_has_no_levels() -> None:
    with pytest.raises(ValueError, match="continuous"):
        alphas_cumprod(FLOW.schedule)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_shift_keeps_the_ends_and_the_order(shift: float) -> None:
    s = torch.linspace(0, 1, 11, dtype=torch.float64)
    shifted = shift_time(s, shift)
    assert (shifted[0].item(), shifted[-1].item()) == (0, 1)
    assert (shifted.diff() > 0).all()
    assert ((shifted - s).sum() > 0) == (shift > 1)


def test_shift_of_the_middle() -> None:
    assert shift_time(0.5, 3.0) == pytest.approx(0.75)


def changed(**values: object) -> DiffusionSpec:
    return DiffusionSpec(schedule=ScheduleSpec.model_validate({"type": "Linear", **values}))


def test_hash_is_a_digest_and_changes_with_everything_that_is_read() -> None:
    specs = [EPSILON, COSINE, FLOW, SHIFTED_FLOW, changed(timesteps=100), changed(beta_start=0.001)]
    specs.append(changed(beta_end=0.03))
    hashes = [noise_schedule_hash(spec) for spec in specs]
    assert len(set(hashes)) == len(specs)
    assert all(text.startswith("sha256:") and len(text) == 71 for text in hashes)


def test_hash_ignores_what_the_schedule_does_not_read() -> None:
    def unread(diffusion: DiffusionSpec, **values: float) -> DiffusionSpec:
        return diffusion.model_copy(update={"schedule": diffusion.schedule.model_copy(update=values)})

    assert noise_schedule_hash(unread(EPSILON, shift=2.0)) == noise_schedule_hash(EPSILON)
    assert noise_schedule_hash(unread(COSINE, beta_start=0.5)) == noise_schedule_hash(COSINE)


def test_hash_stays_the_same_across_releases() -> None:
    """Checkpoints and model versions carry it: a change here orphans them."""
    assert noise_schedule_hash(EPSILON)[7:15] == "81632183"
