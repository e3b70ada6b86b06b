"""Retention keeps the newest ones and the newest one that holds, in every history of saves and failures."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from checkpoint_samples import commit_sample
from diffusion_trainer.checkpoint.names import committed_steps
from diffusion_trainer.checkpoint.retention import apply_retention, removable

steps_of = st.lists(st.integers(0, 1000), unique=True, max_size=20)


@given(steps=steps_of, last=st.integers(2, 6), data=st.data())
def test_the_newest_and_the_newest_verified_always_stay(steps: list[int], last: int, data: st.DataObject) -> None:
    verified = data.draw(st.sampled_from(steps)) if steps else None
    removed = removable(steps, last, verified)
    kept = set(steps) - set(removed)
    assert set(sorted(steps)[-last:]) <= kept
    assert verified is None or verified in kept
    assert len(kept) <= last + 1
    assert removed == sorted(removed)


@given(steps=steps_of, last=st.integers(2, 6), data=st.data())
def test_what_was_passed_over_is_none_of_the_last(steps: list[int], last: int, data: st.DataObject) -> None:
    passed_over = data.draw(st.sets(st.sampled_from(steps))) if steps else set()
    good = sorted(set(steps) - passed_over)
    kept = set(steps) - set(removable(steps, last, good[-1] if good else None, passed_over))
    assert kept - passed_over == set(good[-last:])
    assert kept & passed_over == {step for step in passed_over if not good or step > good[-1]}


@given(steps=steps_of, last=st.integers(2, 6))
def test_nothing_goes_while_nothing_is_known_to_hold(steps: list[int], last: int) -> None:
    assert removable(steps, last, None) == []


def test_applying_it_removes_whole_folders(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        commit_sample(tmp_path, step)
    assert apply_retention(tmp_path, 2, newest_verified=4) == [2]
    assert committed_steps(tmp_path) == [8, 6, 4]
    assert apply_retention(tmp_path, 2, newest_verified=8) == [4]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["FENCE-0", "latest", "step-00000006", "step-00000008"]
