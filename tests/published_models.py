"""A published model version, looked into and published again as an attacker would; and the refusal that must follow."""

import json
from pathlib import Path
from typing import Any

import pytest

from diffusion_contract.digest import sha256_of
from diffusion_contract.model_reference import ModelReference
from diffusion_registry.image_layout import blob_path
from diffusion_registry.oci_documents import canonical_json
from diffusion_registry.verification import ModelVersionRefused, open_model_version

Document = dict[str, Any]


def layout_of(models: Path) -> Path:
    return models / "claim" / "digits"


def manifest_of(models: Path, reference: ModelReference) -> Document:
    manifest: Document = json.loads(blob_path(layout_of(models), reference.digest).read_bytes())
    return manifest


def republish(models: Path, manifest: Document) -> ModelReference:
    """A manifest of our own making, under its true digest: what an attacker who may write the volume could do."""
    content = canonical_json(manifest)
    blob_path(layout_of(models), sha256_of(content)).write_bytes(content)
    return ModelReference("claim", "digits", sha256_of(content))


def refusal(models: Path, reference: ModelReference, target: Path) -> ModelVersionRefused:
    with pytest.raises(ModelVersionRefused) as caught:
        open_model_version(models, reference, target)
    assert not target.exists()
    assert not list(target.parent.glob(".opening-*"))
    assert str(caught.value) == caught.value.message
    return caught.value
