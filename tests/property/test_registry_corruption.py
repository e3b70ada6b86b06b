"""Whatever byte of whatever file is changed, the model version is refused and nothing is handed out."""

import shutil
import tempfile
from collections.abc import Iterator
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


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_changed_byte_in_any_blob_is_refused(published: tuple[Path, ModelReference], data: st.DataObject) -> None:
    models, reference = published
    blobs = sorted((models / "claim" / "digits" / "blobs" / "sha256").iterdir())
    blob = data.draw(st.sampled_from(blobs), label="blob")
    content = blob.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1), label="place")
    change = data.draw(st.integers(1, 255), label="change")
    damaged = bytearray(content)
    damaged[place] ^= change
    blob.write_bytes(damaged)
    try:
        refuse(models, reference)
    finally:
        blob.write_bytes(content)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_two_blobs_that_changed_places_are_refused(published: tuple[Path, ModelReference], data: st.DataObject) -> None:
    models, reference = published
    blobs = sorted((models / "claim" / "digits" / "blobs" / "sha256").iterdir())
    one, other = data.draw(st.lists(st.sampled_from(blobs), min_size=2, max_size=2, unique=True))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    try:
        refuse(models, reference)
    finally:
        one.write_bytes(contents[0])
        other.write_bytes(contents[1])


def refuse(models: Path, reference: ModelReference) -> None:
    target = models.parent / "opened"
    with pytest.raises(ModelVersionRefused) as caught:
        open_model_version(models, reference, target)
    assert caught.value.reason == "DigestMismatch"
    assert not target.exists()
