"""Whatever the world sizes are and whenever they change, each epoch uses each sample exactly once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffusion_trainer.sampler import StatelessSampler, rank_slice


@given(
    size=st.integers(1, 40),
    batch=st.integers(1, 23),
    worlds=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    seed=st.integers(0, 2**31 - 1),
)
def test_any_sequence_of_world_sizes_uses_each_sample_once_an_epoch(
    size: int, batch: int, worlds: list[int], seed: int
) -> None:
    used = []
    for step, world in enumerate(worlds):
        for rank in range(world):
            start, stop = rank_slice(batch, rank, world)
            # A new sampler each time: nothing may depend on what one remembers.
            used += StatelessSampler(size, seed).indices(step * batch + start, step * batch + stop).tolist()
    for epoch in range(len(used) // size):
        assert sorted(used[epoch * size : (epoch + 1) * size]) == list(range(size))
    rest = used[len(used) // size * size :]
    assert len(set(rest)) == len(rest)


@given(batch=st.integers(0, 500), world=st.integers(1, 64))
def test_slices_cover_the_batch_in_order_and_differ_by_one_at_most(batch: int, world: int) -> None:
    slices = [rank_slice(batch, rank, world) for rank in range(world)]
    assert [start for start, _stop in slices] == [0, *(stop for _start, stop in slices[:-1])]
    assert slices[-1][1] == batch
    sizes = {stop - start for start, stop in slices}
    assert max(sizes) - min(sizes) <= 1


@given(size=st.integers(1, 50), seed=st.integers(0, 1000), start=st.integers(0, 300), length=st.integers(0, 120))
def test_remembering_permutations_changes_nothing(size: int, seed: int, start: int, length: int) -> None:
    used = StatelessSampler(size, seed)
    used.indices(0, 3 * size)
    np.testing.assert_array_equal(
        used.indices(start, start + length), StatelessSampler(size, seed).indices(start, start + length)
    )


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(StatelessSampler(50, seed).permutation(epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
