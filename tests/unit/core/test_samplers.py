"""Sampler tables against diffusers' schedulers, which are the oracle, and rows against being alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from diffusion_contract.run_config import DiffusionSpec, ModelSpec, ScheduleSpec
from diffusion_contract.serving_config import Sampler
from diffusion_core.denoisers import NULL_LABEL, Denoiser, build_denoiser
from diffusion_core.samplers import (
    SMALLEST_SIGNAL,
    SamplerRefused,
    SamplerTable,
    advance_rows,
    denoise_with_guidance,
    gains,
    generate,
    guided,
    initial_noise,
    sampler_table,
)
from tiny_models import BYTE_RANGE, COSINE, EPSILON, FLOW, SHIFTED_FLOW, TEN_CLASSES, tiny_dit, tiny_unet, weights_of

Network = Callable[[Tensor, Tensor], Tensor]


def some_network(x: Tensor, t: Tensor) -> Tensor:
    """Not linear in anything, and different at every pixel and time."""
    return torch.tanh(1.3 * x + torch.sin(t.view(-1, 1, 1, 1) / 90)) + 0.1 * x.flip(3)


def start(row: int) -> Tensor:
    return torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(row))


def ddim_oracle(diffusion: DiffusionSpec, steps: int, x: Tensor) -> Tensor:
    """diffusers' own steps over the times that are left when the end of the schedule without a signal is cut off."""
    names = {"Linear": "linear", "Cosine": "squaredcos_cap_v2"}
    scheduler = DDIMScheduler(beta_schedule=names[diffusion.schedule.type], timestep_spacing="trailing")
    times = trailing(int((scheduler.alphas_cumprod >= SMALLEST_SIGNAL).sum()), steps)
    for t, after in pairwise([*times, -1]):
        scheduler.register_to_config(num_train_timesteps=t - after)
        scheduler.num_inference_steps = 1  # the step goes from t to t - num_train_timesteps // num_inference_steps
        out = some_network(x, torch.tensor([float(t)]))
        x = scheduler.step(out, t, x, use_clipped_model_output=True).prev_sample
    return x


def trailing(total: int, steps: int) -> list[int]:
    scheduler = DDIMScheduler(num_train_timesteps=total, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    return [int(t) for t in scheduler.timesteps[:steps]]  # rounding may bring it one more, which is -1


def flow_oracle(diffusion: DiffusionSpec, steps: int, x: Tensor) -> Tensor:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=diffusion.schedule.shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist())
    for t in scheduler.timesteps:
        x = scheduler.step(some_network(x, t.view(1)), t, x).prev_sample
    return x


@dataclass
class Row:
    """A request in a batch: its table, where it stands, and the tick at which it arrives."""

    table: SamplerTable
    x: Tensor
    arrives: int
    step: int = 0

    @property
    def done(self) -> bool:
        return self.step == self.table.steps


def run_mixed(rows: list[Row]) -> None:
    """Tick until all rows are done; rows join when they arrive and leave when they are done."""
    tick = 0
    while not all(row.done for row in rows):
        active = [row for row in rows if row.arrives <= tick and not row.done]
        tick += 1
        if not active:
            continue
        x = torch.cat([row.x for row in active])
        t = torch.stack([row.table.timesteps[row.step] for row in active])
        coefficients = torch.stack([row.table.coefficients[row.step] for row in active])
        x, _ = advance_rows(x, some_network(x, t), None, coefficients, None, active[0].table.clip)
        for row, after in zip(active, x.split(1), strict=True):
            row.x, row.step = after, row.step + 1


@pytest.mark.parametrize("diffusion", [EPSILON, COSINE])
def test_ddim_of_mixed_steps_and_arrivals_is_that_of_diffusers(diffusion: DiffusionSpec) -> None:
    steps = [10, 20, 4, 50, 1]
    rows = [Row(sampler_table("DDIM", n, diffusion), start(n), arrives) for arrives, n in enumerate(steps)]
    run_mixed(rows)
    for n, row in zip(steps, rows, strict=True):
        torch.testing.assert_close(row.x, ddim_oracle(diffusion, n, start(n)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 10, 20, 50, 250, 1000])
def test_ddim_is_that_of_diffusers_as_it_stands_where_the_steps_divide_the_times(steps: int) -> None:
    scheduler = DDIMScheduler(beta_schedule="linear", timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    x = start(steps)
    for t in scheduler.timesteps:
        out = some_network(x, t.float().view(1))
        x = scheduler.step(out, int(t), x, use_clipped_model_output=True).prev_sample
    row = Row(sampler_table("DDIM", steps, EPSILON), start(steps), arrives=0)
    run_mixed([row])
    torch.testing.assert_close(row.x, x, atol=2e-5, rtol=0)


@pytest.mark.parametrize("diffusion", [FLOW, SHIFTED_FLOW])
def test_euler_of_mixed_steps_and_arrivals_is_that_of_diffusers(diffusion: DiffusionSpec) -> None:
    steps = [8, 15, 1, 33]
    rows = [Row(sampler_table("Euler", n, diffusion), start(n), 3 * arrives) for arrives, n in enumerate(steps)]
    run_mixed(rows)
    for n, row in zip(steps, rows, strict=True):
        torch.testing.assert_close(row.x, flow_oracle(diffusion, n, start(n)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [1, 3, 7, 15, 64, 997])
@pytest.mark.parametrize(("diffusion", "total"), [(EPSILON, 1000), (COSINE, 997)])
def test_ddim_times_are_trailing_and_distinct(diffusion: DiffusionSpec, total: int, steps: int) -> None:
    table = sampler_table("DDIM", steps, diffusion)
    assert table.timesteps.tolist() == trailing(total, steps)
    assert table.timesteps[0] == total - 1
    assert (table.timesteps.diff() < 0).all()
    assert table.coefficients.shape == (steps, 6)
    assert table.coefficients.isfinite().all()


def test_as_many_steps_as_the_schedule_has_times_may_stand_still_now_and_then() -> None:
    table = sampler_table("DDIM", 1000, COSINE)
    x, out = torch.randn(2, 1, 4, 4)
    repeated = (table.timesteps.diff() == 0).nonzero().flatten()
    assert len(repeated) == 3
    for place in repeated:
        after, _ = advance_rows(x[None], out[None], None, table.coefficients[place : place + 1], None, table.clip)
        torch.testing.assert_close(after, x[None])


@pytest.mark.parametrize("diffusion", [EPSILON, COSINE])
def test_no_step_asks_for_a_sample_of_which_nothing_is_left(diffusion: DiffusionSpec) -> None:
    assert sampler_table("DDIM", 20, diffusion).coefficients[:, 1].abs().max() <= SMALLEST_SIGNAL**-0.5


def test_the_gain_is_what_an_error_of_the_network_becomes() -> None:
    coefficients = torch.tensor([[1.0, -3.0, 0, 0, 0, 0]] * 4)
    assert gains(coefficients, torch.tensor([0.0, 1.0, 2.0, 50.0])).tolist() == [3, 3, 9, 297]


@pytest.mark.parametrize(("sampler", "diffusion"), [("DDIM", EPSILON), ("DDIM", COSINE), ("Euler", SHIFTED_FLOW)])
def test_the_last_row_returns_the_clean_sample(sampler: Sampler, diffusion: DiffusionSpec) -> None:
    table = sampler_table(sampler, 9, diffusion)
    x, out = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4)
    after, x0 = advance_rows(x, out, None, table.coefficients[-1:], None, table.clip)
    torch.testing.assert_close(after, x0, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("sampler", "diffusion"), [("DDIM", EPSILON), ("DDIM", COSINE), ("Euler", SHIFTED_FLOW)])
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_a_denoiser_that_knows_the_answer_reaches_it(sampler: Sampler, diffusion: DiffusionSpec, steps: int) -> None:
    clean = torch.rand(1, 1, 4, 4) * 1.8 - 0.9
    table = sampler_table(sampler, steps, diffusion)
    x = torch.randn(1, 1, 4, 4)
    for row in table.coefficients:
        out = (clean - row[0] * x) / row[1]  # solves x0 = p x + q out
        x, _ = advance_rows(x, out, None, row.view(1, 6), None, table.clip)
    torch.testing.assert_close(x, clean, atol=1e-4, rtol=0)


def test_history_and_noise_enter_by_their_coefficients() -> None:
    one = torch.ones(1, 1, 2, 2)
    coefficients = torch.tensor([[1.0, 2.0, 10.0, 100.0, 1000.0, 10000.0]])
    after, x0 = advance_rows(one, one, one * 5, coefficients, one * 7, math.inf)
    assert x0.unique().tolist() == [3]
    assert after.unique().tolist() == [10 + 300 + 5000 + 70000]


def test_only_ddim_clips_the_clean_sample() -> None:
    assert sampler_table("DDIM", 4, EPSILON).clip == 1
    assert sampler_table("Euler", 4, FLOW).clip == math.inf
    _, x0 = advance_rows(torch.full((1, 1, 2, 2), 9.0), torch.zeros(1, 1, 2, 2), None, torch.ones(1, 6), None, 1.0)
    assert x0.unique().tolist() == [1]


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_a_number_of_steps_out_of_range_is_refused(steps: int) -> None:
    with pytest.raises(SamplerRefused, match=f"between 1 and 1000.*got {steps}"):
        sampler_table("DDIM", steps, EPSILON)


def test_the_range_of_steps_is_that_of_the_schedule() -> None:
    short = DiffusionSpec(schedule=ScheduleSpec(timesteps=10))
    assert sampler_table("DDIM", 10, short).timesteps.tolist() == list(range(9, -1, -1))
    with pytest.raises(SamplerRefused, match="between 1 and 10"):
        sampler_table("DDIM", 11, short)


@pytest.mark.parametrize(("sampler", "diffusion", "fitting"), [("DDIM", FLOW, "Euler"), ("Euler", EPSILON, "DDIM")])
def test_a_sampler_that_does_not_fit_the_prediction_is_refused(
    sampler: Sampler, diffusion: DiffusionSpec, fitting: str
) -> None:
    with pytest.raises(SamplerRefused, match=f"use {fitting}"):
        sampler_table(sampler, 4, diffusion)


# --- guidance ----------------------------------------------------------------------------------------------------


def test_guidance_moves_away_from_the_unconditional_answer() -> None:
    conditional, unconditional = torch.full((3, 1, 2, 2), 2.0), torch.full((3, 1, 2, 2), 1.0)
    out = guided(conditional, unconditional, torch.tensor([0.0, 1.0, 3.0]))
    assert out[:, 0, 0, 0].tolist() == [1, 2, 4]


class LabelPainter:
    """Answers every row with its label, and counts the rows that it was asked for."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        self.rows += len(x)
        assert len(t) == len(x)
        return torch.zeros_like(x) if labels is None else labels.view(-1, 1, 1, 1).expand_as(x).float()


def test_only_guided_rows_are_evaluated_twice() -> None:
    painter = LabelPainter()
    x, t, labels = torch.zeros(4, 1, 2, 2), torch.zeros(4), torch.tensor([3, 4, 5, 6])
    out = denoise_with_guidance(painter, x, t, labels, torch.tensor([1.0, 2.0, 1.0, 0.0]))
    assert painter.rows == 6
    assert out[:, 0, 0, 0].tolist() == [3, 2 * 4 - NULL_LABEL, 5, NULL_LABEL]


def test_rows_without_guidance_or_labels_are_evaluated_once() -> None:
    painter = LabelPainter()
    x, t = torch.zeros(2, 1, 2, 2), torch.zeros(2)
    denoise_with_guidance(painter, x, t, torch.tensor([1, 2]), torch.ones(2))
    denoise_with_guidance(painter, x, t, None, torch.full((2,), 5.0))
    assert painter.rows == 4


# --- whole pictures ----------------------------------------------------------------------------------------------


def loaded(model_of: Callable[..., ModelSpec]) -> Denoiser:
    model = model_of(TEN_CLASSES)
    network = build_denoiser(model)
    network.load_state_dict(weights_of(model))
    return network.eval()


@pytest.mark.parametrize("model_of", [tiny_unet, tiny_dit])
@pytest.mark.parametrize(("sampler", "diffusion"), [("DDIM", EPSILON), ("Euler", FLOW)])
def test_the_same_seed_gives_the_same_picture_alone_and_in_a_crowd(
    model_of: Callable[..., ModelSpec], sampler: Sampler, diffusion: DiffusionSpec
) -> None:
    network, model = loaded(model_of), tiny_unet(TEN_CLASSES)
    labels, seeds = [3, 1, 4, 1, 5], [10, 11, 12, 13, 14]
    crowd = generate(network, model, diffusion, BYTE_RANGE, labels, seeds, sampler, 4, 2.0)
    assert crowd.shape == (5, 1, 8, 8)
    assert crowd.dtype == torch.uint8
    for n in (0, 4):
        alone = generate(network, model, diffusion, BYTE_RANGE, labels[n : n + 1], seeds[n : n + 1], sampler, 4, 2.0)
        assert (alone[0].int() - crowd[n].int()).abs().max() <= 1


def test_seed_label_and_guidance_each_change_the_picture() -> None:
    network, model = loaded(tiny_dit), tiny_dit(TEN_CLASSES)

    def picture(label: int, seed: int, scale: float) -> bytes:
        return generate(network, model, FLOW, BYTE_RANGE, [label], [seed], "Euler", 3, scale).numpy().tobytes()

    assert len({picture(1, 1, 1.0), picture(2, 1, 1.0), picture(1, 2, 1.0), picture(1, 1, 3.0)}) == 4


def test_initial_noise_has_the_models_shape_and_the_seeds_numbers() -> None:
    noise = initial_noise(7, tiny_dit())
    assert noise.shape == (1, 8, 8)
    assert torch.equal(noise, initial_noise(7, tiny_dit()))
    assert not torch.equal(noise, initial_noise(8, tiny_dit()))
