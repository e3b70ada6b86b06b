"""The right bytes of the wrong thing: manifests that hold under their digest and are refused all the same."""

from pathlib import Path

import pytest

from diffusion_contract.digest import sha256_of
from diffusion_contract.model_reference import ModelReference
from diffusion_registry.image_layout import blob_path
from published_models import Document, layout_of, manifest_of, refusal, republish


@pytest.mark.parametrize(
    "name",
    [
        "../escape.json",
        "/etc/escape.json",
        "unet/../../escape.json",
        "./a.json",
        "a//b.json",
        "",
        ".",
        "a\\b.json",
        "a/",
    ],
)
def test_a_file_name_that_leads_out_or_is_odd_is_refused(
    models: Path, reference: ModelReference, tmp_path: Path, name: str
) -> None:
    manifest = manifest_of(models, reference)
    manifest["layers"][0]["annotations"]["org.opencontainers.image.title"] = name
    refused = refusal(models, republish(models, manifest), tmp_path / "opened")
    assert refused.reason == "NotAllowed"
    assert repr(name) in refused.message
    assert not list(tmp_path.rglob("escape.json"))


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("model.py", "text/x-python"),
        ("model.py", "application/vnd.diffusion.model.settings.v1+json"),
        ("a.json", "application/vnd.diffusion.model.weights.v1.safetensors"),
        ("a.safetensors", "application/octet-stream"),
        ("weights.bin", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ],
)
def test_a_media_type_that_is_not_on_the_list_is_refused(
    models: Path, reference: ModelReference, tmp_path: Path, name: str, media_type: str
) -> None:
    manifest = manifest_of(models, reference)
    layer = manifest["layers"][0]
    layer["annotations"]["org.opencontainers.image.title"], layer["mediaType"] = name, media_type
    refused = refusal(models, republish(models, manifest), tmp_path / "opened")
    assert refused.reason == "NotAllowed"
    assert name in refused.message


def test_one_name_for_two_files_or_for_a_file_and_a_folder_is_refused(
    models: Path, reference: ModelReference, tmp_path: Path
) -> None:
    for second in ("a.json", "a.json/b.json"):
        manifest = manifest_of(models, reference)
        json_layers = [layer for layer in manifest["layers"] if layer["mediaType"].endswith("+json")]
        for layer, name in zip(json_layers, ("a.json", second), strict=False):
            layer["annotations"]["org.opencontainers.image.title"] = name
        assert refusal(models, republish(models, manifest), tmp_path / "opened").reason == "NotAllowed"


@pytest.mark.parametrize(
    "change",
    [
        {"artifactType": "application/vnd.oci.image.config.v1+json"},
        {"mediaType": "application/vnd.oci.image.index.v1+json"},
        {"schemaVersion": 1},
        {"layers": []},
        {"surprise": 1},
        {"config": None},
    ],
)
def test_a_manifest_of_something_else_is_malformed(
    models: Path, reference: ModelReference, tmp_path: Path, change: Document
) -> None:
    other = republish(models, manifest_of(models, reference) | change)
    assert refusal(models, other, tmp_path / "opened").reason == "Malformed"


def test_a_manifest_that_is_no_json_is_malformed(models: Path, tmp_path: Path) -> None:
    content = b"\x80\x04 no json"
    blob_path(layout_of(models), sha256_of(content)).write_bytes(content)
    other = ModelReference("claim", "digits", sha256_of(content))
    assert refusal(models, other, tmp_path / "opened").reason == "Malformed"


def test_a_config_blob_of_another_kind_is_refused(models: Path, reference: ModelReference, tmp_path: Path) -> None:
    manifest = manifest_of(models, reference)
    readme = next(layer for layer in manifest["layers"] if layer["mediaType"].endswith("markdown"))
    manifest["config"] |= {"digest": readme["digest"], "size": readme["size"]}
    assert refusal(models, republish(models, manifest), tmp_path / "opened").reason == "Malformed"
    manifest["config"] |= {"mediaType": "application/json"}
    assert refusal(models, republish(models, manifest), tmp_path / "opened").reason == "NotAllowed"


def test_a_size_that_does_not_hold_is_refused(models: Path, reference: ModelReference, tmp_path: Path) -> None:
    manifest = manifest_of(models, reference)
    manifest["layers"][0]["size"] += 1
    assert refusal(models, republish(models, manifest), tmp_path / "opened").reason == "DigestMismatch"
    manifest = manifest_of(models, reference)
    manifest["config"]["size"] += 1
    assert refusal(models, republish(models, manifest), tmp_path / "opened").reason == "Malformed"


@pytest.mark.parametrize("name", ["../claim/digits", "a/../../claim/digits", "/etc"])
def test_a_reference_that_leads_out_of_the_volume_is_refused(
    models: Path, reference: ModelReference, tmp_path: Path, name: str
) -> None:
    refused = refusal(models, ModelReference("claim", name, reference.digest), tmp_path / "opened")
    assert refused.reason == "NotAllowed"


@pytest.mark.parametrize("claim", ["..", "claim/digits"])
def test_a_claim_that_is_no_name_is_refused(
    models: Path, reference: ModelReference, tmp_path: Path, claim: str
) -> None:
    refused = refusal(models, ModelReference(claim, "digits", reference.digest), tmp_path / "opened")
    assert refused.reason == "NotAllowed"
