"""Randomness is a function of (seed, counters) and of nothing else."""

import numpy as np
import pytest
import torch

from diffusion_core.randomness import Stream, normal_row, row_generator


def draw(seed: int, *counters: int) -> list[float]:
    return [float(number) for number in row_generator(seed, *counters).standard_normal(64)]


def test_the_same_counters_give_the_same_numbers_whatever_was_drawn_before() -> None:
    first = draw(7, Stream.TRAINING, 12)
    np.random.default_rng(0).random(10)
    torch.manual_seed(99)
    draw(7, Stream.TRAINING, 13)
    assert draw(7, Stream.TRAINING, 12) == first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((7, 1, 12), (8, 1, 12)),
        ((7, 1, 12), (7, 2, 12)),
        ((7, 1, 12), (7, 1, 13)),
        ((7, 1, 12), (7, 12, 1)),
        ((7, 1, 12), (7, 1, 12, 1)),
        ((0, 1, 0), (2**32, 1, 0)),
        ((0, 1, 0), (0, 1, 2**32)),
    ],
)
def test_other_seeds_and_counters_give_other_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    assert not set(draw(*one)) & set(draw(*other))


def test_neighbouring_rows_never_overlap_however_many_numbers_are_drawn() -> None:
    long = row_generator(7, Stream.TRAINING, 12).integers(0, 2**63, 100_000)
    following = row_generator(7, Stream.TRAINING, 13).integers(0, 2**63, 100_000)
    assert len(np.intersect1d(long, following)) == 0


def test_rows_are_standard_normal_and_independent() -> None:
    rows = torch.stack([normal_row(row_generator(0, Stream.TRAINING, n), (8, 8)) for n in range(500)])
    assert rows.dtype == torch.float32
    assert abs(rows.mean().item()) < 0.02
    assert abs(rows.std().item() - 1) < 0.02
    correlation = (rows[:-1] * rows[1:]).mean().item()
    assert abs(correlation) < 0.02


@pytest.mark.parametrize("counters", [(1, 2, 3, 4), (-1,), (2**64,)])
def test_counters_out_of_range_are_refused(counters: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counters"):
        row_generator(0, *counters)


def test_known_numbers_stay_the_same_across_releases() -> None:
    """A change here makes every old seed draw another picture and every resumed run another noise."""
    drawn = row_generator(5, Stream.SAMPLING).standard_normal(3, dtype=np.float32)
    assert drawn.tolist() == pytest.approx([0.696642, -0.420229, -0.632480], abs=1e-5)
