"""Nothing is left of a folder, whatever its owner may no longer read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_local.removal import remove_tree

WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all") if os.geteuid() == 0 else ()
"""Root may read everything; without capabilities it is an owner like any other."""


def removed_as_owner(folder: Path) -> subprocess.CompletedProcess[str]:
    program = (
        f"from pathlib import Path; from diffusion_local.removal import remove_tree; remove_tree(Path({str(folder)!r}))"
    )
    command = [*WITHOUT_PRIVILEGES, sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o500])
def test_folders_that_are_closed_to_their_owner_go_with_all_in_them(tmp_path: Path, mode: int) -> None:
    volume = tmp_path / "volumes"
    (volume / "closed" / "below").mkdir(parents=True)
    (volume / "closed" / "below" / "file").touch()
    for folder in (volume / "closed" / "below", volume / "closed"):
        folder.chmod(mode)
    done = removed_as_owner(volume)
    assert done.returncode == 0, done.stderr
    assert not volume.exists()


def test_what_a_link_leads_to_stays_as_it_is(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "link").symlink_to(outside)
    remove_tree(tmp_path / "volume")
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert outside.stat().st_mode & 0o777 == 0o750


def test_a_folder_that_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
