"""An older attempt cannot commit behind the back of a newer one, however their steps interleave."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_samples import commit_sample
from diffusion_trainer.checkpoint import commit as commit_module
from diffusion_trainer.checkpoint import fencing
from diffusion_trainer.checkpoint.fencing import Fenced, check_fence, fence_level, raise_fence
from diffusion_trainer.checkpoint.names import TEMPORARY, committed_steps

POINTS = ("raise_fence", "write_hashed", "write_new", "check_fence", "_rename", "sync_folder")
"""Functions that a commit calls one after the other: at each a newer attempt may do a part of its opening."""


class Newcomer:
    """A newer attempt that opens the folder in two parts, at two moments of the older one's commit."""

    def __init__(self, folder: Path, attempt: int, first: int, second: int) -> None:
        self.folder, self.attempt = folder, attempt
        self.first, self.second = first, max(first, second)
        self.moment = -1
        self.seen: list[int] | None = None

    def tick(self) -> None:
        self.moment += 1
        if self.moment == self.first:
            (self.folder / f"FENCE-{self.attempt}").touch()
        if self.moment == self.second:
            fencing.remove_temporaries(self.folder, below_attempt=self.attempt)
            self.seen = committed_steps(self.folder)


def interrupted(newcomer: Newcomer, name: str, original: Callable[..., object]) -> Any:
    def call(*arguments: Any, **named: Any) -> object:
        newcomer.tick()
        return original(*arguments, **named)

    return mock.patch.object(commit_module, name, call)


@settings(max_examples=60, deadline=None)
@given(first=st.integers(0, 14), second=st.integers(0, 14), older=st.integers(0, 3), newer=st.integers(1, 3))
def test_an_older_attempt_commits_before_the_newer_one_reads_or_not_at_all(
    first: int, second: int, older: int, newer: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        commit_sample(folder, 1, attempt=0)
        newcomer = Newcomer(folder, older + newer, first, second)
        patches = [interrupted(newcomer, name, getattr(commit_module, name)) for name in POINTS]
        for patch in patches:
            patch.start()
        try:
            commit_sample(folder, 2, attempt=older)
            committed = True
        except Fenced:
            committed = False
        finally:
            for patch in patches:
                patch.stop()
        if newcomer.seen is not None:
            assert committed_steps(folder) == newcomer.seen, "nothing appears after the newer attempt has read"
            assert committed == (2 in newcomer.seen)
        assert not [entry for entry in folder.iterdir() if TEMPORARY.match(entry.name)]


@settings(max_examples=25, deadline=None)
@given(levels=st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_the_fence_only_rises(levels: list[int]) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        highest = 0
        for attempt in levels:
            if attempt < highest:
                with pytest.raises(Fenced, match=f"attempt {highest} has taken over"):
                    raise_fence(folder, attempt)
            else:
                raise_fence(folder, attempt)
                highest = attempt
            assert fence_level(folder) == highest
            check_fence(folder, highest)


def test_two_that_open_the_folder_at_once_cannot_lower_the_fence(tmp_path: Path) -> None:
    original = Path.touch

    def a_newer_one_is_quicker(path: Path, *given: Any, **named: Any) -> None:
        with mock.patch.object(Path, "touch", original):
            raise_fence(tmp_path, 5)
        original(path, *given, **named)

    with mock.patch.object(Path, "touch", a_newer_one_is_quicker), pytest.raises(Fenced, match="attempt 5"):
        raise_fence(tmp_path, 4)
    assert fence_level(tmp_path) == 5


def test_opening_removes_what_older_attempts_left_and_nothing_else(tmp_path: Path) -> None:
    commit_sample(tmp_path, 3, attempt=1)
    for name in (".tmp-00000004-0-aa", ".tmp-00000004-1-bb", ".tmp-00000004-2-cc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"x")
    raise_fence(tmp_path, 2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".tmp-00000004-2-cc",
        "FENCE-1",
        "FENCE-2",
        "latest",
        "step-00000003",
    ]
