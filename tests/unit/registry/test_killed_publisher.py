"""A publisher that is killed with SIGKILL between any two writes: readers see whole versions or none, a retry mends."""

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from diffusion_contract.model_reference import ModelReference
from diffusion_registry.image_layout import publish
from diffusion_registry.verification import ModelVersionRefused, open_model_version
from tiny_models import version_config

PUBLISH_AND_DIE = """
import os, signal, sys
from pathlib import Path
from diffusion_contract.model_version import ModelVersionConfig
from diffusion_registry import image_layout

folder, layout, config, moment, deadly = sys.argv[1:]
original, calls = getattr(image_layout, moment), iter(range(1000))

def kill_at(argument):
    if next(calls) == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)
    original(argument)

setattr(image_layout, moment, kill_at)
image_layout.publish(Path(folder), Path(layout), ModelVersionConfig.model_validate_json(config), "step-1")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    for name in ("a.json", "b.json"):
        (path / name).write_text(name)
    return path


@pytest.mark.parametrize("moment", ["sync", "sync_folder"])
@pytest.mark.parametrize("deadly", range(6))
def test_a_killed_publisher_does_no_harm(folder: Path, tmp_path: Path, moment: str, deadly: int) -> None:
    """Six files are written: the layout's mark, the config, two files, the manifest and the index, in this order."""
    models = tmp_path / "models"
    layout = models / "claim" / "digits"
    expected = publish(folder, tmp_path / "elsewhere", version_config(), "step-1")
    command = [sys.executable, "-c", PUBLISH_AND_DIE, str(folder), str(layout)]
    ended = subprocess.run([*command, version_config().model_dump_json(), moment, str(deadly)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL

    reference = ModelReference("claim", "digits", expected)
    with suppress(ModelVersionRefused):
        open_model_version(models, reference, tmp_path / "early")
        assert (tmp_path / "early" / "b.json").read_text() == "b.json"

    assert publish(folder, layout, version_config(), "step-1") == expected
    open_model_version(models, reference, tmp_path / "opened")
