"""The three JSON documents of an OCI image layout, as far as a model version uses them (OCI image-spec 1.1)."""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.run_config import Sha256

MANIFEST_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYOUT_VERSION = "1.0.0"

TITLE_ANNOTATION = "org.opencontainers.image.title"
"""On a layer: the file's path in the model folder, with slashes."""
CREATED_ANNOTATION = "org.opencontainers.image.created"
NAME_ANNOTATION = "org.opencontainers.image.ref.name"
"""On a manifest in index.json: its tag."""


class Descriptor(FrozenModel):
    """A blob by media type, digest and size in bytes."""

    media_type: str
    digest: Sha256
    size: Annotated[int, Field(ge=0)]
    artifact_type: str | None = None
    annotations: dict[str, str] = Field(default_factory=dict)


class Manifest(FrozenModel):
    """One model version: the config blob and one layer for each file."""

    schema_version: Literal[2] = 2
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = "application/vnd.oci.image.manifest.v1+json"
    artifact_type: Literal["application/vnd.diffusion.model.v1"] = "application/vnd.diffusion.model.v1"
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], Field(min_length=1, max_length=1000)]
    annotations: dict[str, str] = Field(default_factory=dict)


class Listed(FrozenModel):
    """A manifest in index.json, as far as we read it: other tools give it a `platform`, `urls` and more."""

    model_config = ConfigDict(extra="ignore")

    digest: Annotated[str, Field(pattern=r"^[a-z0-9]+([+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+$")]
    annotations: dict[str, str] = Field(default_factory=dict)


class Index(FrozenModel):
    """index.json: the manifests of a layout. Nothing is trusted because it stands here; a digest is."""

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal[2] = 2
    media_type: Literal["application/vnd.oci.image.index.v1+json"] = "application/vnd.oci.image.index.v1+json"
    manifests: tuple[Listed, ...] = ()


def canonical_json(document: Mapping[str, object]) -> bytes:
    """The one spelling of a document: sorted keys, no spaces, UTF-8. Equal content has an equal digest."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
