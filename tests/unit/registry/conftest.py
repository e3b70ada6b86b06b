"""One published model version, and copies of it that a test may damage."""

import json
import shutil
from pathlib import Path

import pytest

from diffusion_contract.model_reference import ModelReference
from diffusion_registry.image_layout import publish
from diffusion_registry.model_card import write_model_card
from tiny_models import save_tiny_model, tiny_dit, version_config


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models directory with the claim `claim`, which holds one version of `digits`; not to be changed."""
    root = tmp_path_factory.mktemp("published")
    save_tiny_model(root / "folder", tiny_dit())
    write_model_card(root / "folder", version_config())
    publish(root / "folder", root / "models" / "claim" / "digits", version_config(), "step-600")
    return root


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(published / "models", tmp_path / "models"))


@pytest.fixture
def reference(models: Path) -> ModelReference:
    index = json.loads((models / "claim" / "digits" / "index.json").read_bytes())
    return ModelReference("claim", "digits", index["manifests"][0]["digest"])
