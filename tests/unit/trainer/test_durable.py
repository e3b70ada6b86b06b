"""Large files past the page cache: the same bytes and digest on any file system, and reading back that proves them."""

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from diffusion_contract.digest import sha256_of
from diffusion_trainer.checkpoint.durable import CHUNK, write_hashed
from diffusion_trainer.checkpoint.read_back import is_on_disk

SIZES = [0, 1, 7, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 4096, 2 * CHUNK + 8, 2 * CHUNK + 13]


def image(size: int) -> memoryview:
    """Random content in memory that is aligned to pages, as a snapshot's is."""
    memory = mmap.mmap(-1, max(size, 1))
    memory.write(os.urandom(size))
    return memoryview(memory)[:size]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_what_was_given(tmp_path: Path, size: int) -> None:
    content = image(size)
    path = tmp_path / "shard"
    assert write_hashed(path, content) == sha256_of(content)
    assert path.read_bytes() == bytes(content)
    assert is_on_disk(path, content) or not direct_reads(tmp_path)


def direct_reads(folder: Path) -> bool:
    """Whether the file system of the tests has them at all (tmpfs, for one, has not)."""
    probe = folder / "probe"
    probe.touch()
    try:
        os.close(os.open(probe, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True


def test_memory_that_is_not_aligned_is_written_all_the_same(tmp_path: Path) -> None:
    content = image(CHUNK + 5000)[3:]
    path = tmp_path / "shard"
    assert write_hashed(path, content) == sha256_of(content)
    assert path.read_bytes() == bytes(content)


def test_a_file_system_without_direct_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, command: int, *given: Any) -> Any:
        if command == fcntl.F_SETFL:
            raise OSError(errno.EINVAL, "Invalid argument")
        return original(descriptor, command, *given)

    original = fcntl.fcntl
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    content = image(CHUNK + 100)
    assert write_hashed(tmp_path / "shard", content) == sha256_of(content)
    assert (tmp_path / "shard").read_bytes() == bytes(content)


def test_an_error_that_has_nothing_to_do_with_direct_writes_goes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int, _content: memoryview) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(OSError, match="Invalid argument"):
        write_hashed(tmp_path / "shard", image(8192))


@pytest.mark.parametrize("at", [0, 4096, CHUNK, CHUNK + 4999])
def test_one_flipped_bit_is_not_what_was_written(tmp_path: Path, at: int) -> None:
    content = image(CHUNK + 5000)
    path = tmp_path / "shard"
    write_hashed(path, content)
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))
    assert not is_on_disk(path, content)


def test_another_size_or_no_file_proves_nothing(tmp_path: Path) -> None:
    content = image(5000)
    path = tmp_path / "shard"
    assert not is_on_disk(path, content)
    write_hashed(path, content)
    assert not is_on_disk(path, content[:4999])
    path.write_bytes(b"")
    assert not is_on_disk(path, content)


def test_a_read_that_fails_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = image(5000)
    write_hashed(tmp_path / "shard", content)

    def fail(*_given: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    assert not is_on_disk(tmp_path / "shard", content)
