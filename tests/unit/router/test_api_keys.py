"""Keys from a mounted Secret: who comes in, what is ignored, and that a rotation is noticed."""

import logging
from pathlib import Path

import pytest

from diffusion_router.door.api_keys import ApiKeys
from serving_pods import write_key


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def keys_in(folder: Path) -> tuple[ApiKeys, Clock]:
    clock = Clock()
    return ApiKeys(folder, recheck_seconds=1.0, clock=clock), clock


def test_a_key_is_known_by_its_hash_and_its_owner_by_the_file_name(tmp_path: Path) -> None:
    write_key(tmp_path, "alice", "key-a")
    write_key(tmp_path, "bob", "key-b")
    keys, _ = keys_in(tmp_path)
    assert keys.owner_of("key-a") == "alice"
    assert keys.owner_of("key-b") == "bob"
    assert keys.owner_of("key-c") is None
    assert keys.owner_of("") is None
    assert keys.owner_of("\udc80\N{SNOWMAN}") is None


def test_without_the_folder_or_with_an_empty_one_nobody_comes_in(tmp_path: Path) -> None:
    assert keys_in(tmp_path / "missing")[0].owner_of("x") is None
    assert keys_in(tmp_path)[0].owner_of("x") is None


def test_a_rotation_is_noticed_at_the_next_look_and_not_before(tmp_path: Path) -> None:
    write_key(tmp_path, "alice", "old")
    keys, clock = keys_in(tmp_path)
    assert keys.owner_of("old") == "alice"
    write_key(tmp_path, "alice", "new")
    write_key(tmp_path, "bob", "more")
    clock.now = 0.9
    assert keys.owner_of("old") == "alice"
    clock.now = 1.1
    assert keys.owner_of("old") is None
    assert keys.owner_of("new") == "alice"
    (tmp_path / "bob").unlink()
    clock.now = 2.2
    assert keys.owner_of("more") is None


def test_a_secret_as_the_kubelet_mounts_it_is_read_through_its_links(tmp_path: Path) -> None:
    """The kubelet writes a new folder, swings the link `..data` over, and removes the old folder."""
    for version, key in (("..v1", "one"), ("..v2", "two")):
        write_key(tmp_path / version, "alice", key)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "alice").symlink_to("..data/alice")
    keys, clock = keys_in(tmp_path)
    assert keys.owner_of("one") == "alice"
    (tmp_path / "..next").symlink_to("..v2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    clock.now = 5
    assert keys.owner_of("one") is None
    assert keys.owner_of("two") == "alice"


@pytest.mark.parametrize("content", ["plain-key", "sha256:12", "", "md5:" + "0" * 32])
def test_an_entry_that_is_no_hash_is_named_and_ignored(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_key(tmp_path, "alice", "key-a")
    (tmp_path / "broken").write_text(content)
    with caplog.at_level(logging.WARNING):
        keys, _ = keys_in(tmp_path)
        assert keys.owner_of("key-a") == "alice"
        assert keys.owner_of(content) is None
    assert "'broken'" in caplog.text
    assert "plain-key" not in caplog.text


def test_a_trailing_newline_does_no_harm(tmp_path: Path) -> None:
    write_key(tmp_path, "alice", "key-a")
    file = tmp_path / "alice"
    file.write_text(file.read_text() + "\n")
    assert keys_in(tmp_path)[0].owner_of("key-a") == "alice"
