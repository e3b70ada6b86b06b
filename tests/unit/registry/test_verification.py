"""Opening: verified bytes or a refusal that names the file; nothing in between."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from diffusion_contract.model_reference import ModelReference
from diffusion_core.model_folder import load_model_folder
from diffusion_registry.image_layout import blob_path
from diffusion_registry.verification import ModelVersionRefused, open_model_version, read_model_version
from published_models import layout_of, manifest_of, refusal
from tiny_models import tiny_dit, version_config


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
