"""The group of a pod's volumes."""

import os
from pathlib import Path

from diffusion_local.node.atomic_directory import write_payload
from diffusion_local.node.payloads import File
from diffusion_local.node.volume_ownership import give_whole, is_given

GROUP = os.getgid()
"""One that whoever runs the tests may give files to."""


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_a_volume_is_the_groups_with_all_that_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "folder/file").touch(0o600)
    (tmp_path / "script").touch(0o744)
    (tmp_path / "link").symlink_to("/nowhere")
    tmp_path.chmod(0o755)
    assert not is_given(tmp_path, GROUP)
    give_whole(tmp_path, GROUP)
    assert is_given(tmp_path, GROUP)
    assert [mode(tmp_path / name) for name in ("", "folder", "folder/file", "script")] == [0o2775, 0o2770, 0o660, 0o764]


def test_files_from_the_api_can_be_read_by_the_group_and_are_written_once(tmp_path: Path) -> None:
    payload = {"key": File(b"x", 0o400), "a/b": File(b"y", 0o600)}
    assert write_payload(tmp_path, payload, GROUP)
    assert [mode((tmp_path / name).resolve()) for name in payload] == [0o440, 0o640]
    assert not write_payload(tmp_path, payload, GROUP)
