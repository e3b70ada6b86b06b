"""Which samples a step uses: arithmetic on positions, no state, so any world size resumes exactly.

Position p counts all samples that the run has used so far. Epoch e = p // N uses the permutation f(seed, e) of the
N samples; step s uses the positions [s * B, (s + 1) * B); rank r of W takes the r-th of W nearly equal slices. The
union over the ranks is the same at every world size, so nothing is lost or repeated when it changes.
"""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class StatelessSampler:
    """The order of `size` samples over all epochs. Remembers the two permutations used last, and nothing else."""

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("an empty dataset has no order")
        self.size = size
        self.seed = seed
        self._permutations: dict[int, Indices] = {}

    def permutation(self, epoch: int) -> Indices:
        """The order of one epoch: int64 [size], a function of (seed, epoch)."""
        if epoch not in self._permutations:
            while len(self._permutations) > 1:
                del self._permutations[min(self._permutations)]
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, epoch))))
            self._permutations[epoch] = generator.permutation(self.size).astype(np.int64)
        return self._permutations[epoch]

    def indices(self, start: int, stop: int) -> Indices:
        """The samples at positions start..stop-1: int64 [stop - start]. May cross any number of epochs."""
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self.size)
            count = min(stop - start, self.size - offset)
            parts.append(self.permutation(epoch)[offset : offset + count])
            start += count
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def rank_slice(batch: int, rank: int, world: int) -> tuple[int, int]:
    """The part [start, stop) of `batch` samples that `rank` of `world` takes; sizes differ by at most one."""
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is not in a world of {world}")
    return rank * batch // world, (rank + 1) * batch // world
