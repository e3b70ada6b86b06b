"""The commit protocol: all or nothing, whatever the file system says, and words for what it said."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoint_samples import RUN_UID, commit_sample
from diffusion_contract.checkpoint_manifest import parse_manifest
from diffusion_contract.digest import sha256_of
from diffusion_trainer.checkpoint import commit as commit_module
from diffusion_trainer.checkpoint import durable, verification
from diffusion_trainer.checkpoint.aside import clear_the_way, settle_asides
from diffusion_trainer.checkpoint.commit import failure_of
from diffusion_trainer.checkpoint.fencing import check_fence
from diffusion_trainer.checkpoint.names import committed_name, committed_steps
from diffusion_trainer.checkpoint.verification import find_newest, verify_checkpoint


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_commit_leaves_the_folder_its_fence_and_a_pointer(tmp_path: Path) -> None:
    reference = commit_sample(tmp_path, 40, attempt=2)
    assert names(tmp_path) == ["FENCE-2", "latest", "step-00000040"]
    assert (tmp_path / "latest").read_text() == "step-00000040\n"
    content = (tmp_path / "step-00000040/MANIFEST.json").read_bytes()
    assert reference.digest == sha256_of(content)
    assert parse_manifest(content).step == 40


def test_the_manifest_is_written_after_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def noting(original: Callable[[Path, memoryview], object]) -> Callable[[Path, memoryview], object]:
        def write(path: Path, content: memoryview) -> object:
            written.append(path.name)
            return original(path, content)

        return write

    for name in ("write_hashed", "write_new"):
        monkeypatch.setattr(commit_module, name, noting(getattr(durable, name)))
    commit_sample(tmp_path, 1)
    assert written == ["model.safetensors", "ema.safetensors", "MANIFEST.json"]


def test_content_and_names_are_durable_before_what_relies_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a power cut would find them: each file, then the folder of their names, then the commit, then the pointer."""
    fsync, rename, done = os.fsync, os.rename, list[str]()

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")

    def note_rename(source: Path, target: Path) -> None:
        rename(source, target)
        done.append(f"{Path(source).name} -> {Path(target).name}")

    commit_sample(tmp_path, 1)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    commit_sample(tmp_path, 2)
    temporary, pointer = done[3].removeprefix("sync "), done[6].removeprefix("sync ")
    assert temporary.startswith(".tmp-00000002-")
    assert pointer.startswith(".latest-")
    files = ["sync model.safetensors", "sync ema.safetensors", "sync MANIFEST.json"]
    commit = [f"sync {temporary}", f"{temporary} -> step-00000002", f"sync {tmp_path.name}"]
    assert done == [*files, *commit, f"sync {pointer}", f"{pointer} -> latest", f"sync {tmp_path.name}"]


def test_latest_never_moves_back(tmp_path: Path) -> None:
    commit_sample(tmp_path, 10)
    commit_sample(tmp_path, 5)
    assert (tmp_path / "latest").read_text() == "step-00000010\n"


def test_the_same_step_again_is_the_same_checkpoint(tmp_path: Path) -> None:
    first = commit_sample(tmp_path, 7)
    before = (tmp_path / "step-00000007/MANIFEST.json").stat().st_ino
    assert commit_sample(tmp_path, 7) == first
    assert (tmp_path / "step-00000007/MANIFEST.json").stat().st_ino == before


def test_one_that_does_not_hold_is_replaced(tmp_path: Path) -> None:
    commit_sample(tmp_path, 7)
    (tmp_path / "step-00000007/model.safetensors").write_bytes(b"damaged")
    commit_sample(tmp_path, 7, attempt=1)
    assert verify_checkpoint(tmp_path / "step-00000007").manifest.attempt == 1
    assert names(tmp_path) == ["FENCE-0", "FENCE-1", "latest", "step-00000007"]


def test_two_processes_that_save_the_same_step_have_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = []

    def the_other_is_quicker(folder: Path, attempt: int) -> None:
        monkeypatch.undo()
        others.append(commit_sample(tmp_path, 7))
        check_fence(folder, attempt)

    monkeypatch.setattr(commit_module, "check_fence", the_other_is_quicker)
    assert commit_sample(tmp_path, 7, attempt=0) == others[0], "that it is there already is a success"
    assert names(tmp_path) == ["FENCE-0", "latest", "step-00000007"]


def test_what_a_killed_process_left_aside_is_put_back_if_it_holds(tmp_path: Path) -> None:
    kept = commit_sample(tmp_path, 7)
    commit_sample(tmp_path, 8)
    (tmp_path / "step-00000007").rename(tmp_path / ".aside-00000007-ab12")
    shutil.copytree(tmp_path / "step-00000008", tmp_path / ".aside-00000008-ab12")
    shutil.copytree(tmp_path / "step-00000008", tmp_path / ".aside-00000006-ab12")
    commit_sample(tmp_path, 9)
    assert committed_steps(tmp_path) == [9, 8, 7]
    assert verify_checkpoint(tmp_path / "step-00000007").reference == kept
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_one_that_cannot_be_read_stays_aside_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kept = commit_sample(tmp_path, 7)
    (tmp_path / "step-00000007").rename(tmp_path / ".aside-00000007-ab12")

    def refuse(_path: Path) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as failing:
        failing.setattr(verification, "file_digest", refuse)
        settle_asides(tmp_path)
        assert names(tmp_path) == [".aside-00000007-ab12", "FENCE-0", "latest"]
    settle_asides(tmp_path)
    assert verify_checkpoint(tmp_path / "step-00000007").reference == kept


def test_a_volume_that_refuses_the_rename_loses_no_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_sample(tmp_path, 7)
    (tmp_path / "step-00000007").rename(tmp_path / ".aside-00000007-ab12")
    original = Path.rename

    def refuse_to_put_back(path: Path, target: Path) -> Path:
        if target.name == "step-00000007":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(path, target)

    monkeypatch.setattr(Path, "rename", refuse_to_put_back)
    with pytest.raises(OSError, match="Input/output error"):
        settle_asides(tmp_path)
    assert (tmp_path / ".aside-00000007-ab12/MANIFEST.json").exists()


def test_a_good_one_that_took_the_place_of_a_damaged_one_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_sample(tmp_path, 7)
    (tmp_path / "step-00000007/model.safetensors").write_bytes(b"damaged")
    others = []

    def the_other_is_quicker(final: Path) -> None:
        monkeypatch.undo()
        others.append(commit_sample(tmp_path, 7))
        clear_the_way(final)

    monkeypatch.setattr(commit_module, "clear_the_way", the_other_is_quicker)
    assert commit_sample(tmp_path, 7) == others[0]
    assert verify_checkpoint(tmp_path / "step-00000007").reference == others[0]
    assert names(tmp_path) == ["FENCE-0", "latest", "step-00000007"]


def test_leftovers_of_a_killed_writer_of_this_attempt_go_with_the_next_commit(tmp_path: Path) -> None:
    commit_sample(tmp_path, 5)
    (tmp_path / ".tmp-00000005-0-dead").mkdir()
    (tmp_path / ".tmp-00000009-0-live").mkdir()
    commit_sample(tmp_path, 6)
    assert ".tmp-00000005-0-dead" not in names(tmp_path)
    assert ".tmp-00000009-0-live" in names(tmp_path), "it may still be written"


@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (errno.ENOSPC, "StorageFull", "the checkpoint volume is full"),
        (errno.EDQUOT, "StorageFull", "the checkpoint volume is full"),
        (errno.EROFS, "StorageReadOnly", "the checkpoint volume cannot be written"),
        (errno.EACCES, "StorageReadOnly", "the checkpoint volume cannot be written"),
        (errno.EIO, "SaveFailed", "the checkpoint could not be written"),
    ],
)
@pytest.mark.parametrize("failing_call", range(8))
def test_an_error_at_any_call_commits_nothing_by_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, words: str, failing_call: int
) -> None:
    commit_sample(tmp_path, 1)
    calls = iter(range(100))

    def failing(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: Any, **named: Any) -> object:
            if next(calls) == failing_call:
                raise OSError(number, os.strerror(number), "somewhere")
            return original(*arguments, **named)

        return call

    for name in ("open", "write", "fsync"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    try:
        commit_sample(tmp_path, 2)
        error = None
    except OSError as raised:
        error = raised
    monkeypatch.undo()
    search = find_newest(tmp_path, RUN_UID)
    assert search.passed_over == ()
    assert search.found is not None
    assert not [name for name in names(tmp_path) if name.startswith(".tmp")]
    if error is not None:
        assert (failure_of(error).reason, failure_of(error).message.split(" (")[0]) == (reason, words)
        assert search.found.manifest.step in (1, 2)
    else:
        assert search.found.manifest.step == 2


ON_A_REAL_VOLUME = """
import sys
from pathlib import Path
from checkpoint_samples import commit_sample, manifest_for
from diffusion_trainer.checkpoint.commit import commit_checkpoint, failure_of
folder = Path(sys.argv[1]) / "run"
shards = {"model.safetensors": bytes(int(sys.argv[2]))}
try:
    commit_checkpoint(folder, 2, 0, shards, lambda files: manifest_for(2, 0, files))
except OSError as error:
    print(failure_of(error).reason)
print(sorted(entry.name for entry in folder.iterdir()))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux) to mount a small volume")
@pytest.mark.parametrize(("options", "reason"), [("size=256k", "StorageFull"), ("size=4m,ro", "StorageReadOnly")])
def test_a_volume_that_is_really_full_or_read_only(tmp_path: Path, options: str, reason: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(ON_A_REAL_VOLUME)
    volume = tmp_path / "volume"
    volume.mkdir()
    mount = f"mount -t tmpfs -o {options.removesuffix(',ro')} none {volume} && mkdir {volume}/run"
    if options.endswith(",ro"):
        mount += f" && mount -o remount,ro {volume}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && exec {sys.executable} {script} {volume} 600000"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == reason
    assert ".tmp" not in done.stdout
    assert "step-" not in done.stdout


def test_steps_are_listed_newest_first_and_a_missing_folder_has_none(tmp_path: Path) -> None:
    assert committed_steps(tmp_path / "none") == []
    for step in (3, 12, 5):
        commit_sample(tmp_path, step)
    (tmp_path / "step-notes").mkdir()
    assert committed_steps(tmp_path) == [12, 5, 3]
    assert committed_name(123456789) == "step-123456789"
