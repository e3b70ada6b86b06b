"""Whatever byte of whatever file is changed, the model version is refused and nothing is handed out."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_contract.model_reference import ModelReference
from diffusion_registry.image_layout import publish
from diffusion_registry.model_card import write_model_card
from diffusion_registry.verification import ModelVersionRefused, open_model_version
from tiny_models import save_tiny_model, tiny_dit, version_config


@pytest.fixture(scope="module")
def published() -> Iterator[tuple[Path, ModelReference]]:
    """A models directory with one version, restored after each example."""
    root = Path(tempfile.mkdtemp())
    save_tiny_model(root / "folder", tiny_dit(size=4))
    write_model_card(root / "folder", version_config())
    digest = publish(root / "folder", root / "models" / "claim" / "digits", version_config(), "step-600")
    yield root / "models", ModelReference("claim", "digits", digest)
    shutil.rmtree(root)


@contextmanager
def contents(changed: dict[Path, bytes]) -> Iterator[None]:
    """Give files other contents for the length of a block."""
    before = {path: path.read_bytes() for path in changed}
    for path, content in changed.items():
        path.write_bytes(content)
    try:
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def blobs_of(models: Path) -> list[Path]:
    return sorted((models / "claim" / "digits" / "blobs" / "sha256").iterdir())


def refuse(models: Path, reference: ModelReference) -> None:
    target = models.parent / "opened"
    with pytest.raises(ModelVersionRefused) as caught:
        open_model_version(models, reference, target)
    assert caught.value.reason == "DigestMismatch"
    assert not target.exists()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_changed_byte_in_any_blob_is_refused(published: tuple[Path, ModelReference], data: st.DataObject) -> None:
    models, reference = published
    blob = data.draw(st.sampled_from(blobs_of(models)), label="blob")
    damaged = bytearray(blob.read_bytes())
    place = data.draw(st.integers(0, len(damaged) - 1), label="place")
    damaged[place] ^= data.draw(st.integers(1, 255), label="change")
    with contents({blob: bytes(damaged)}):
        refuse(models, reference)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_two_blobs_that_changed_places_are_refused(published: tuple[Path, ModelReference], data: st.DataObject) -> None:
    models, reference = published
    one, other = data.draw(st.lists(st.sampled_from(blobs_of(models)), min_size=2, max_size=2, unique=True))
    with contents({one: other.read_bytes(), other: one.read_bytes()}):
        refuse(models, reference)
