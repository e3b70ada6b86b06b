"""Publishing: a valid OCI image layout, equal digests for equal content, and nothing half done."""

import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

from diffusion_contract.digest import sha256_of
from diffusion_contract.model_version import ARTIFACT_TYPE, CONFIG_MEDIA_TYPE, ModelVersionConfig
from diffusion_registry import image_layout
from diffusion_registry.image_layout import PublishRefused, blob_path, publish
from tiny_models import version_config

FILES = {
    "model_index.json": b"{}",
    "README.md": b"# A model\n",
    "unet/config.json": b'{"a": 1}',
    "unet/diffusion_pytorch_model.safetensors": b"weights" * 1000,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "folder", FILES)


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def document(layout: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blob_path(layout, digest).read_bytes())
    return found


def index_of(layout: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((layout / "index.json").read_bytes())["manifests"]
    return listed


def tree(layout: Path) -> dict[str, bytes]:
    return {path.relative_to(layout).as_posix(): path.read_bytes() for path in layout.rglob("*") if path.is_file()}


def test_the_layout_is_one_by_the_specification(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    digest = publish(folder, layout, version_config(), "step-600")
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (entry,) = index["manifests"]
    assert entry == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": ARTIFACT_TYPE,
        "digest": digest,
        "size": len(blob_path(layout, digest).read_bytes()),
        "annotations": {"org.opencontainers.image.ref.name": "step-600"},
    }


def test_the_manifest_lists_the_config_and_every_file(folder: Path, tmp_path: Path) -> None:
    layout, config = tmp_path / "layout", version_config()
    manifest = document(layout, publish(folder, layout, config, "step-600"))
    assert manifest["schemaVersion"] == 2
    assert manifest["artifactType"] == ARTIFACT_TYPE
    assert manifest["annotations"] == {"org.opencontainers.image.created": config.created}
    blob = manifest["config"]
    assert blob["mediaType"] == CONFIG_MEDIA_TYPE
    assert ModelVersionConfig.model_validate(document(layout, blob["digest"])) == config
    layers = {layer["annotations"]["org.opencontainers.image.title"]: layer for layer in manifest["layers"]}
    assert sorted(layers) == sorted(FILES)
    for name, content in FILES.items():
        assert layers[name]["size"] == len(content)
        assert layers[name]["digest"] == sha256_of(content)
        assert blob_path(layout, layers[name]["digest"]).read_bytes() == content


def test_every_blob_is_named_by_its_content(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    publish(folder, layout, version_config(), "step-600")
    blobs = list((layout / "blobs" / "sha256").iterdir())
    assert len(blobs) == len(FILES) + 2
    assert all(sha256_of(blob.read_bytes()) == f"sha256:{blob.name}" for blob in blobs)


def test_files_are_readable_by_other_users(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    publish(folder, layout, version_config(), "step-600")
    files = [path for path in layout.rglob("*") if path.is_file() and path.name != ".lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}


def test_publishing_twice_changes_nothing(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    first = publish(folder, layout, version_config(), "step-600")
    before = tree(layout)
    assert publish(folder, layout, version_config(), "step-600") == first
    assert publish(folder, layout, version_config(), "another-tag") == first
    assert tree(layout) == before


def test_equal_content_has_an_equal_digest_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = write_folder(tmp_path / "copy", dict(reversed(FILES.items())))
    one = publish(folder, tmp_path / "layout", version_config(), "a")
    assert publish(copy, tmp_path / "elsewhere", version_config(), "b") == one


def test_other_content_has_another_digest(folder: Path, tmp_path: Path) -> None:
    layout, config = tmp_path / "layout", version_config()
    digests = {publish(folder, layout, config, "a")}
    digests.add(publish(folder, layout, config.model_copy(update={"created": "2026-01-02T03:04:06Z"}), "a"))
    (folder / "README.md").write_text("# Another\n")
    digests.add(publish(folder, layout, config, "a"))
    (folder / "README.md").rename(folder / "CARD.md")
    digests.add(publish(folder, layout, config, "a"))
    assert len(digests) == 4


def test_a_tag_is_never_moved(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    first = publish(folder, layout, version_config(), "step-600")
    (folder / "README.md").write_text("# Another\n")
    second = publish(folder, layout, version_config(), "step-600")
    tags = {entry["digest"]: entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index_of(layout)}
    assert tags == {first: "step-600", second: f"step-600-{second[7:19]}"}


def test_publishing_mends_a_damaged_blob(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    digest = publish(folder, layout, version_config(), "step-600")
    before = tree(layout)
    blob_path(layout, digest).write_bytes(b"damaged")
    publish(folder, layout, version_config(), "step-600")
    assert tree(layout) == before


def test_publishers_at_the_same_time_are_all_listed(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    configs = [version_config().model_copy(update={"created": f"2026-01-02T03:04:{n:02}Z"}) for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        digests = list(pool.map(lambda config: publish(folder, layout, config, "step-600"), configs))
    assert sorted(entry["digest"] for entry in index_of(layout)) == sorted(digests)
    assert len({str(entry["annotations"]) for entry in index_of(layout)}) == 12


def test_a_publisher_that_dies_at_any_step_leaves_a_layout_that_publishes_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail at the n-th sync, for every n: the index names only versions that are whole, and a retry completes."""
    expected = publish(folder, tmp_path / "whole", version_config(), "step-600")
    synced = image_layout.sync
    for failing in range(len(FILES) + 4):
        layout = tmp_path / f"layout-{failing}"
        calls = iter(range(1000))

        def sync(file: IO[bytes], calls: Iterator[int] = calls, failing: int = failing) -> None:
            if next(calls) == failing:
                raise OSError(28, "No space left on device")
            synced(file)

        with monkeypatch.context() as patch:
            patch.setattr(image_layout, "sync", sync)
            with pytest.raises(OSError, match="No space left"):
                publish(folder, layout, version_config(), "step-600")
        assert not (layout / "index.json").exists()
        assert not list(layout.rglob(".new-*"))
        assert publish(folder, layout, version_config(), "step-600") == expected
        assert tree(layout) == tree(tmp_path / "whole")


@pytest.mark.parametrize("name", ["model.py", "weights.bin", "weights.pkl", "unet/model.pt", "noextension", ".hidden"])
def test_code_and_pickles_are_not_published(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(PublishRefused, match=name):
        publish(folder, tmp_path / "layout", version_config(), "step-600")
    assert not (tmp_path / "layout").exists()


def test_links_and_pipes_are_not_published(folder: Path, tmp_path: Path) -> None:
    (folder / "link.json").symlink_to("/etc/hostname")
    with pytest.raises(PublishRefused, match=r"link\.json is not a plain file"):
        publish(folder, tmp_path / "layout", version_config(), "step-600")
    (folder / "link.json").unlink()
    os.mkfifo(folder / "pipe.json")
    with pytest.raises(PublishRefused, match=r"pipe\.json is not a plain file"):
        publish(folder, tmp_path / "layout", version_config(), "step-600")


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path):
        with pytest.raises(PublishRefused, match="holds no files"):
            publish(folder, tmp_path / "layout", version_config(), "step-600")


def test_what_other_tools_keep_in_the_layout_stays(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0", "theirs": 1}')
    theirs = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha512:" + "0" * 128,
        "size": 7,
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": "latest"},
        "urls": ["https://example.org/blob"],
    }
    index = {"schemaVersion": 2, "manifests": [theirs], "annotations": {"org.example": "kept"}, "subject": {"a": 1}}
    (layout / "index.json").write_text(json.dumps(index))
    digest = publish(folder, layout, version_config(), "latest")
    written = json.loads((layout / "index.json").read_text())
    assert {name: value for name, value in written.items() if name != "manifests"} == {
        name: value for name, value in index.items() if name != "manifests"
    }
    assert written["manifests"][0] == theirs
    assert written["manifests"][1]["annotations"]["org.opencontainers.image.ref.name"] == f"latest-{digest[7:19]}"
    assert json.loads((layout / "oci-layout").read_text())["theirs"] == 1


def test_what_killed_publishers_were_writing_is_removed(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    publish(folder, layout, version_config(), "step-600")
    before = tree(layout)
    for directory in (layout, layout / "blobs" / "sha256"):
        (directory / ".new-abc").write_bytes(b"half of a file")
    publish(folder, layout, version_config(), "step-600")
    assert tree(layout) == before


def test_an_index_that_is_no_index_is_refused_and_kept(folder: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    layout.mkdir()
    (layout / "index.json").write_text("[]")
    with pytest.raises(PublishRefused, match=r"index\.json"):
        publish(folder, layout, version_config(), "step-600")
    assert (layout / "index.json").read_text() == "[]"
