"""Opening: verified bytes or a refusal that names the file; nothing in between."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from diffusion_contract.model_reference import ModelReference
from diffusion_core.model_folder import load_model_folder
from diffusion_registry.image_layout import blob_path, publish
from diffusion_registry.model_card import write_model_card
from diffusion_registry.oci_documents import canonical_json, sha256_of
from diffusion_registry.verification import ModelVersionRefused, open_model_version, read_model_version
from tiny_models import save_tiny_model, tiny_dit, version_config

Document = dict[str, object]


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


def layout_of(models: Path) -> Path:
    return models / "claim" / "digits"


def manifest_of(models: Path, reference: ModelReference) -> Document:
    return json.loads(blob_path(layout_of(models), reference.digest).read_bytes())


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


def test_what_was_published_is_opened_and_loads(
    published: Path, models: Path, reference: ModelReference, tmp_path: Path
) -> None:
    opened = open_model_version(models, reference, tmp_path / "opened")
    assert opened == tmp_path / "opened"
    source = published / "folder"
    assert {path.relative_to(opened) for path in opened.rglob("*")} == {
        path.relative_to(source) for path in source.rglob("*")
    }
    assert load_model_folder(opened).model == tiny_dit()


def test_an_empty_target_is_used_and_a_full_one_is_left_alone(
    models: Path, reference: ModelReference, tmp_path: Path
) -> None:
    target = tmp_path / "opened"
    target.mkdir()
    open_model_version(models, reference, target)
    before = sorted(target.rglob("*"))
    with pytest.raises(FileExistsError, match="not empty"):
        open_model_version(models, reference, target)
    assert sorted(target.rglob("*")) == before


def test_a_name_may_have_folders(models: Path, reference: ModelReference, tmp_path: Path) -> None:
    (models / "claim" / "team").mkdir()
    layout_of(models).rename(models / "claim" / "team" / "digits")
    open_model_version(models, ModelReference("claim", "team/digits", reference.digest), tmp_path / "opened")


def test_the_index_is_not_needed_and_not_believed(models: Path, reference: ModelReference, tmp_path: Path) -> None:
    (layout_of(models) / "index.json").write_text("rubbish")
    open_model_version(models, reference, tmp_path / "opened")


def test_the_config_is_read_and_verified(models: Path, reference: ModelReference) -> None:
    assert read_model_version(models, reference) == version_config()
    blob = manifest_of(models, reference)["config"]
    path = blob_path(layout_of(models), blob["digest"])
    path.write_bytes(path.read_bytes().replace(b"38400", b"38401"))
    with pytest.raises(ModelVersionRefused, match="config blob") as caught:
        read_model_version(models, reference)
    assert caught.value.reason == "DigestMismatch"


# --- not found ---------------------------------------------------------------------------------------------------


def test_what_is_missing_is_named(models: Path, reference: ModelReference, tmp_path: Path) -> None:
    target = tmp_path / "opened"
    cases = [
        (ModelReference("other", "digits", reference.digest), "volume claim other is not mounted"),
        (ModelReference("claim", "letters", reference.digest), "claim claim holds no model letters"),
        (ModelReference("claim", "digits", "sha256:" + "0" * 64), "the manifest is missing"),
    ]
    for wrong, message in cases:
        refused = refusal(models, wrong, target)
        assert refused.reason == "NotFound"
        assert message in refused.message


def each_file(models: Path, reference: ModelReference) -> list[tuple[str, Path]]:
    """Every blob with the name that a refusal must give it."""
    manifest = manifest_of(models, reference)
    blobs = [("the manifest", reference.digest), ("the config blob", manifest["config"]["digest"])]
    blobs += [(layer["annotations"]["org.opencontainers.image.title"], layer["digest"]) for layer in manifest["layers"]]
    return [(name, blob_path(layout_of(models), digest)) for name, digest in blobs]


def test_a_missing_blob_is_named(models: Path, reference: ModelReference, tmp_path: Path) -> None:
    for name, path in each_file(models, reference):
        content = path.read_bytes()
        path.unlink()
        refused = refusal(models, reference, tmp_path / "opened")
        assert refused.reason == "NotFound"
        assert refused.message.startswith(f"{name} is missing")
        path.write_bytes(content)


def replaced_by_folder(path: Path) -> None:
    path.mkdir()


def replaced_by_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("replace", [replaced_by_folder, replaced_by_pipe])
def test_a_blob_that_is_no_file_is_refused_at_once(
    models: Path, reference: ModelReference, tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    path = each_file(models, reference)[-1][1]
    path.unlink()
    replace(path)
    assert refusal(models, reference, tmp_path / "opened").reason == "NotFound"


# --- other bytes -------------------------------------------------------------------------------------------------


def flip_last_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def cut(content: bytes) -> bytes:
    return content[:-1]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


def emptied(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [flip_last_bit, cut, lengthen, emptied])
def test_a_damaged_blob_is_named(
    models: Path, reference: ModelReference, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    for name, path in each_file(models, reference):
        content = path.read_bytes()
        path.write_bytes(damage(content))
        refused = refusal(models, reference, tmp_path / "opened")
        assert refused.reason == "DigestMismatch"
        assert refused.message.startswith(f"{name} is not the published one")
        path.write_bytes(content)
    open_model_version(models, reference, tmp_path / "opened")


def test_an_endless_blob_is_not_read_to_its_end(models: Path, reference: ModelReference, tmp_path: Path) -> None:
    path = each_file(models, reference)[-1][1]
    with path.open("r+b") as blob:
        blob.truncate(1 << 40)  # a sparse terabyte
    assert refusal(models, reference, tmp_path / "opened").reason == "DigestMismatch"


# --- the right bytes of the wrong thing --------------------------------------------------------------------------


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
