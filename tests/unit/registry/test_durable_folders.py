"""New folders keep their names, whenever the power goes."""

from pathlib import Path

import pytest

from diffusion_registry import durable_folders
from diffusion_registry.durable_folders import make_folder


def test_every_new_folder_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable_folders, "sync_folder", synced.append)
    make_folder(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a/b"]
    make_folder(tmp_path / "a/b/c")
    assert len(synced) == 3
