"""A row's numbers are its own: no batch, world size or neighbour changes them."""

import math
from random import Random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_contract.run_config import DiffusionSpec
from diffusion_core.objectives import training_loss
from diffusion_core.randomness import RowRandomness
from diffusion_core.samplers import SMALLEST_SIGNAL, advance_rows, sampler_table
from diffusion_core.schedules import alphas_cumprod
from tiny_models import COSINE, EPSILON, FLOW, SHIFTED_FLOW, TEN_CLASSES, tiny_dit

DIFFUSIONS = st.sampled_from([EPSILON, COSINE, FLOW, SHIFTED_FLOW])


def clean_sample(position: int) -> Tensor:
    """A sample that depends on its position, in -1..1."""
    return torch.sin(torch.arange(16.0) * (position + 1)).view(1, 4, 4)


def simple_network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    shift = 0 if labels is None else labels.view(-1, 1, 1, 1) / 10
    return torch.tanh(x + t.view(-1, 1, 1, 1) / 1000 + shift)


@settings(deadline=None, max_examples=60)
@given(
    diffusion=DIFFUSIONS,
    seed=st.integers(0, 2**31 - 1),
    first=st.integers(0, 2**40),
    batch=st.integers(1, 12),
    world=st.integers(1, 5),
)
def test_any_world_size_has_the_losses_of_one_process(
    diffusion: DiffusionSpec, seed: int, first: int, batch: int, world: int
) -> None:
    def losses(positions: list[int]) -> list[float]:
        clean = torch.stack([clean_sample(position) for position in positions])
        labels = torch.tensor([position % 10 for position in positions])
        rows = RowRandomness(seed, positions)
        return training_loss(simple_network, clean, labels, rows, tiny_dit(TEN_CLASSES), diffusion).tolist()

    whole = losses(list(range(first, first + batch)))
    for rank in range(min(world, batch)):
        part = losses(list(range(first + rank, first + batch, world)))
        assert all(
            math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6) for a, b in zip(part, whole[rank::world], strict=True)
        )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 50), DIFFUSIONS), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_row_in_a_mixed_batch_moves_as_if_it_were_alone(
    rows: list[tuple[int, DiffusionSpec]], random: Random
) -> None:
    """Also with rows of different samplers beside it, as long as the clip is one."""
    generator = torch.Generator().manual_seed(0)
    x, out = torch.randn(2, len(rows), 1, 4, 4, generator=generator)
    tables = [sampler_table("Euler" if spec.prediction == "Flow" else "DDIM", steps, spec) for steps, spec in rows]
    coefficients = torch.stack([table.coefficients[random.randrange(table.steps)] for table in tables])
    together, x0 = advance_rows(x, out, None, coefficients, None, 1.0)
    for n in range(len(rows)):
        one = slice(n, n + 1)
        alone, alone_x0 = advance_rows(x[one], out[one], None, coefficients[one], None, 1.0)
        assert torch.equal(alone[0], together[n])
        assert torch.equal(alone_x0[0], x0[n])


def times_with_a_signal(diffusion: DiffusionSpec) -> int:
    return (
        int((alphas_cumprod(diffusion.schedule) >= SMALLEST_SIGNAL).sum()) if diffusion.prediction != "Flow" else 1000
    )


@settings(deadline=None, max_examples=60)
@given(diffusion=DIFFUSIONS, steps=st.integers(1, 1000))
def test_every_table_is_finite_falls_in_time_and_ends_clean(diffusion: DiffusionSpec, steps: int) -> None:
    table = sampler_table("Euler" if diffusion.prediction == "Flow" else "DDIM", steps, diffusion)
    assert table.steps == steps == len(table.coefficients)
    assert table.coefficients.isfinite().all()
    falls = table.timesteps.diff()
    assert (falls < 0).all() or steps > times_with_a_signal(diffusion)
    assert (falls <= 0).all()
    assert table.timesteps.min() >= 0
    assert table.timesteps.max() <= 1000
    assert table.coefficients[-1, 2:].tolist() == [0, 1, 0, 0]
