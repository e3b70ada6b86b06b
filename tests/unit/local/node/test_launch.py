"""The parts of the launcher that need no namespace."""

from pathlib import Path

import pytest

from diffusion_local.node import launch_root
from diffusion_local.node.launch_command import StartError, program_path
from diffusion_local.node.launch_root import DEVICE_LINKS, HOST_ETC, copy_devices, link_folder, make_mount_point


def program(path: Path, mode: int = 0o755) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def test_programs_are_looked_up_in_order(tmp_path: Path) -> None:
    second = program(tmp_path / "b" / "tool")
    search = f"{tmp_path}/a:{tmp_path}/b"
    assert program_path("tool", search) == second
    first = program(tmp_path / "a" / "tool")
    assert program_path("tool", search) == first
    assert program_path(second, search) == second


def test_a_folder_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "a" / "tool").mkdir(parents=True)
    with pytest.raises(StartError, match=r"executable file not found in \$PATH"):
        program_path("tool", f"{tmp_path}/a")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(StartError, match='"/no/such": stat /no/such: no such file'):
        program_path("/no/such", "")


def test_mount_points_are_files_or_folders(tmp_path: Path) -> None:
    make_mount_point(tmp_path / "x/y/file", is_file=True)
    make_mount_point(tmp_path / "x/z", is_file=False)
    make_mount_point(tmp_path / "x/z", is_file=False)
    assert (tmp_path / "x/y/file").is_file()
    assert (tmp_path / "x/z").is_dir()


def test_a_folder_is_shown_by_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    (source / "file").write_text("x")
    link_folder(source, tmp_path / "shown")
    assert (tmp_path / "shown/file").read_text() == "x"
    assert (tmp_path / "shown/below").is_symlink()


def test_a_linked_file_of_the_machine_gives_way(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.symlink_to(f"{HOST_ETC}/hosts")
    make_mount_point(hosts, is_file=True)
    assert hosts.is_file()
    assert not hosts.is_symlink()


def test_the_gpus_of_the_machine_are_in_no_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, shown, bound = tmp_path / "machine", tmp_path / "shown", []
    (machine / "dri").mkdir(parents=True)
    for name in ("null", "tty", "nvidia0", "nvidiactl", "nvidia-uvm", "kfd"):
        (machine / name).touch()
    shown.mkdir()
    monkeypatch.setattr(launch_root, "bind", lambda source, target: bound.append((source, target)))
    copy_devices(machine, shown)
    assert bound == [(f"{machine}/{name}", f"{shown}/{name}") for name in ("null", "tty")]
    assert {entry.name for entry in shown.iterdir()} == {"null", "tty", *DEVICE_LINKS}
