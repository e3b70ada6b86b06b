"""Where files lie, and the image map."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_local.errors import LocalClusterError, make_folder
from diffusion_local.images import add_image, default_images
from diffusion_local.state import HOME_VARIABLE, StateFolder, state_home, write_atomically


def test_the_state_folder_is_the_users_choice_or_xdgs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_home() == tmp_path / "xdg" / "diffusion-local"
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "own"))
    assert StateFolder.of("a").root == tmp_path / "own" / "a"


def test_a_path_that_no_socket_fits_in_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match=HOME_VARIABLE):
        StateFolder(tmp_path / ("x" * 100)).create()


def test_a_folder_that_we_may_not_make_or_write_to_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "state", Path("/proc/none")):
        with pytest.raises(LocalClusterError, match=rf"{place}.*set the environment variable {HOME_VARIABLE}"):
            StateFolder(place / "c").create()


def test_a_folder_of_somebody_else_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(LocalClusterError, match="not ours to write to"):
        make_folder(tmp_path, "XDG_CACHE_HOME")


@pytest.mark.parametrize("command", [("-m", "diffusion_local.binaries"), ("-m", "diffusion_local", "up")])
def test_without_a_home_to_write_to_a_command_ends_with_one_line(command: tuple[str, ...]) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "KUBEBUILDER_"))}
    done = subprocess.run(
        [sys.executable, *command], env=variables | {"HOME": "/proc/none"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "set the environment variable" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_folders_are_for_this_user_only(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "c")
    folder.create()
    for path in (folder.root, folder.certificates, folder.logs):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_write_replaces_the_whole_file_and_leaves_no_other(tmp_path: Path) -> None:
    file = tmp_path / "f"
    write_atomically(file, "long content")
    write_atomically(file, b"short", mode=0o644)
    assert file.read_text() == "short"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]


def test_the_default_images_are_the_four_programs_and_two_for_trials() -> None:
    images = default_images()
    assert {name.rpartition(":")[0] for name in images} == {
        "diffusion-operator/operator",
        "diffusion-operator/trainer",
        "diffusion-operator/server",
        "diffusion-operator/router",
        "busybox",
        "python",
    }
    assert images["busybox:1.37"] == {"cmd": ["sh"]}


def test_an_image_is_added_with_its_words(tmp_path: Path) -> None:
    file = tmp_path / "images.json"
    file.write_text('{"a:1": {"cmd": ["sh"]}}')
    assert add_image(file, "my/image:2=python3 -m 'my app'") == ("my/image:2", ["python3", "-m", "my app"])
    assert json.loads(file.read_text()) == {
        "a:1": {"cmd": ["sh"]},
        "my/image:2": {"entrypoint": ["python3", "-m", "my app"]},
    }


@pytest.mark.parametrize("text", ["", "image", "image=", "=sh", "image=  ", "image='"])
def test_another_form_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LocalClusterError, match=r"NAME=COMMAND|cannot be read: No closing quotation"):
        add_image(tmp_path / "images.json", text)
