"""Randomness as a pure function of (seed, counters): no state to save, none to share between ranks or requests.

The generator is Philox, a counter-based one (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): the
seed is its key and the counters are its position, so two different positions can never overlap. numpy's is used since
torch's CPU generator keeps only 32 bits of its seed, which would give two samples the same noise now and then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Stream(IntEnum):
    """The first counter: what the numbers are for. Streams of one seed are independent of each other."""

    TRAINING = 1
    SAMPLING = 2


@dataclass(frozen=True)
class RowRandomness:
    """Where the randomness of a batch comes from: the run's seed and each row's global sample position [B].

    A sample's position is the number of samples that the whole run has seen before it. It does not depend on the
    world size, so neither does the noise.
    """

    seed: int
    positions: Sequence[int]


def row_generator(seed: int, *counters: int) -> np.random.Generator:
    """A fresh generator for one row: key = seed (0..2**128-1), position = up to three counters (0..2**64-1 each).

    Raises ValueError for more than three counters or one that is out of range.
    """
    if len(counters) > 3 or not all(0 <= counter < 2**64 for counter in counters):
        raise ValueError(f"expected up to three counters between 0 and 2**64-1, got {counters}")
    words = [0, *counters, *(0,) * (3 - len(counters))]  # word 0 counts the numbers that are drawn
    position = sum(word << (64 * place) for place, word in enumerate(words))
    return np.random.Generator(np.random.Philox(key=seed, counter=position))


def normal_row(generator: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers of this shape, fp32 on the CPU: the next ones of the generator."""
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
