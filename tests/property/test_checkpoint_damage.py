"""Damage anything anywhere: the reader finds the newest checkpoint that was left alone and names the others."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_samples import RUN_UID, commit_sample
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import find_newest

FILES = ("model.safetensors", "ema.safetensors", "MANIFEST.json")


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)


def truncate(path: Path, at: float) -> None:
    os.truncate(path, int(at * (path.stat().st_size - 1)))


def zero(path: Path, at: float) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def grow(path: Path, at: float) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def remove(path: Path, at: float) -> None:
    path.unlink()


def replace_by_folder(path: Path, at: float) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (flip, truncate, zero, grow, remove, replace_by_folder)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True),
    damages=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(FILES), st.sampled_from(DAMAGES), st.floats(0, 1)), max_size=6
    ),
)
def test_the_reader_takes_the_newest_that_holds(
    steps: list[int], damages: list[tuple[int, str, Callable[[Path, float], None], float]]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        for step in sorted(steps):
            commit_sample(folder, step)
        hurt = set()
        for index, name, damage, at in damages:
            step = sorted(steps)[index % len(steps)]
            if step not in hurt:
                damage(folder / committed_name(step) / name, at)
                hurt.add(step)
        search = find_newest(folder, RUN_UID)
        holding = sorted(set(steps) - hurt)
        assert (search.found.manifest.step if search.found else None) == (holding[-1] if holding else None)
        newer = sorted((step for step in hurt if not holding or step > holding[-1]), reverse=True)
        assert [passed.step for passed in search.passed_over] == newer
        assert all(passed.reason for passed in search.passed_over)


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(FILES), step=st.integers(2, 9))
def test_files_of_another_checkpoint_do_not_pass(name: str, step: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        commit_sample(folder, 1)
        commit_sample(folder, step)
        shutil.copy(folder / committed_name(1) / name, folder / committed_name(step) / name)
        found = find_newest(folder, RUN_UID).found
        assert found is not None
        assert found.manifest.step == 1


def test_a_checkpoint_of_another_run_is_passed_over(tmp_path: Path) -> None:
    commit_sample(tmp_path / "run", 4)
    search = find_newest(tmp_path / "run", "another")
    assert search.found is None
    assert "another run" in search.passed_over[0].reason
