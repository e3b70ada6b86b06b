"""Datasets that work, and a refusal with field and remedy for each that does not."""

import errno
import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffusion_contract.run_config import RunConfig
from diffusion_trainer.dataset import Dataset, load_dataset
from diffusion_trainer.dataset_digest import dataset_digest
from diffusion_trainer.refusal import ConfigurationRefused
from trainer_workers import run_document


def config(
    path: Path | str, digest: str | None = None, classes: int | None = 3, size: int = 8, channels: int = 1
) -> RunConfig:
    conditioning = {"type": "Class", "classes": classes} if classes else {"type": "None"}
    model = {"denoiser": {"sampleSize": size, "channels": channels}, "conditioning": conditioning}
    uri = path if str(path).startswith("builtin") else f"file://{path}"
    return RunConfig.model_validate(run_document(dataset={"uri": uri, "digest": digest}, model=model))


def write_npz(path: Path, count: int = 6, **arrays: Any) -> Path:
    given: dict[str, Any] = {"images": np.zeros((count, 8, 8), np.uint8), "labels": np.arange(count) % 3} | arrays
    np.savez(path, **{name: value for name, value in given.items() if value is not None})
    return path


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (8, 8)) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 40).save(folder / name)
    return folder


def labels_of(dataset: Dataset) -> list[int]:
    """The class of each sample; AssertionError where there are none."""
    assert dataset.labels is not None
    return [int(label) for label in dataset.labels]


def refusal(config: RunConfig) -> ConfigurationRefused:
    with pytest.raises(ConfigurationRefused) as caught:
        load_dataset(config)
    return caught.value


def test_the_digits_are_there_with_a_digest_that_does_not_change() -> None:
    digits = load_dataset(config("builtin://digits", classes=10))
    assert digits.pixels.shape == (1797, 1, 8, 8)
    assert (digits.pixels.min(), digits.pixels.max()) == (0, 16)
    assert sorted(set(labels_of(digits))) == list(range(10))
    again = load_dataset(config("builtin://digits", digest=digits.digest, classes=10))
    assert again.digest == digits.digest


def test_an_npz_with_any_common_layout(tmp_path: Path) -> None:
    for shape in ((6, 8, 8), (6, 1, 8, 8), (6, 8, 8, 1)):
        path = write_npz(tmp_path / f"{len(shape)}{shape[1]}.npz", images=np.zeros(shape, np.uint8))
        found = load_dataset(config(path, digest=dataset_digest(path)))
        assert found.pixels.shape == (6, 1, 8, 8)
        assert labels_of(found) == [0, 1, 2, 0, 1, 2]


def test_a_folder_has_a_class_for_each_subfolder_and_fits_its_images(tmp_path: Path) -> None:
    write_images(tmp_path, ["cats/1.png", "cats/2.JPG", "dogs/1.jpeg"], size=(20, 12))
    (tmp_path / "cats/notes.txt").write_text("not an image")
    found = load_dataset(config(tmp_path, classes=2))
    assert found.pixels.shape == (3, 1, 8, 8)
    assert found.pixels.dtype == np.uint8
    assert labels_of(found) == [0, 0, 1]


def test_a_flat_folder_serves_a_model_without_classes(tmp_path: Path) -> None:
    write_images(tmp_path, ["b.png", "a.png"])
    assert load_dataset(config(tmp_path, classes=None)).labels is None
    assert refusal(config(tmp_path)).path == "spec.model.conditioning.type"


def test_the_digest_of_a_folder_is_what_the_shell_computes(tmp_path: Path) -> None:
    write_images(tmp_path, ["b/2.png", "a/1.png", "a.png"])
    shell = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    printed = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert dataset_digest(tmp_path) == f"sha256:{printed.split()[0]}"


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert dataset_digest(path) == f"sha256:{printed.split()[0]}"


def test_another_digest_is_refused_with_the_command_that_prints_the_right_one(tmp_path: Path) -> None:
    error = refusal(config(write_npz(tmp_path / "a.npz"), digest="sha256:" + "0" * 64))
    assert error.path == "spec.dataset.digest"
    assert "diffusion-trainer digest PATH" in error.why
    assert refusal(config("builtin://digits", "sha256:" + "0" * 64, 10)).path == "spec.dataset.digest"


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_truncated_npz(tmp_path: Path, keep: int) -> None:
    path = write_npz(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:keep])
    error = refusal(config(path))
    assert error.path == "spec.dataset.uri"
    assert "is no complete .npz file" in error.why


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_a_compressed_npz_with_damaged_bytes(tmp_path: Path, place: float) -> None:
    path = tmp_path / "a.npz"
    generator = np.random.default_rng(0)
    np.savez_compressed(path, images=generator.integers(0, 99, (64, 8, 8)).astype(np.uint8), labels=np.zeros(64, int))
    content = bytearray(path.read_bytes())
    at = int(len(content) * place)
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)
    assert "is no complete .npz file" in refusal(config(path)).why


@pytest.mark.parametrize("method", [99, 12], ids=["unknown compression", "compression that lies"])
def test_an_npz_packed_in_another_way(tmp_path: Path, method: int) -> None:
    path = write_npz(tmp_path / "a.npz")
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        headers = [entry.header_offset for entry in archive.infolist()]
    changed = bytearray(content)
    for local in headers:
        changed[local + 8 : local + 10] = method.to_bytes(2, "little")
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        changed[at + 10 : at + 12] = method.to_bytes(2, "little")
        at = content.find(b"PK\x01\x02", at + 1)
    path.write_bytes(changed)
    assert refusal(config(path)).path == "spec.dataset.uri"


def test_an_encrypted_npz_and_one_with_a_shape_that_no_machine_holds(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 8] |= 1  # The flag that says: encrypted.
    content[6] |= 1
    path.write_bytes(content)
    assert "is no complete .npz file" in refusal(config(path)).why
    huge = tmp_path / "huge.npz"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4000000000000, 8, 8), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(huge, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert refusal(config(huge)).path == "spec.dataset.uri"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_volume_that_fails_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = write_npz(tmp_path / "a.npz")
    write_images(tmp_path / "folder", ["a/1.png"])

    def fail(*_given: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    for target in ("np.load", "dataset_digest"):
        with monkeypatch.context() as patch:
            patch.setattr(f"diffusion_trainer.dataset.{target}", fail)
            with pytest.raises(OSError, match=re.escape(os.strerror(number))):
                load_dataset(config(path))
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        load_dataset(config(tmp_path / "folder", classes=2))


def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path, ["a/1.png", "b/2.png"])
    original = os.scandir

    def closed(path: str) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert "Permission denied" in refusal(config(tmp_path, classes=2)).why


def test_grey_images_of_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a/1.png")
    write_images(tmp_path, ["b/2.png"])
    pixels = load_dataset(config(tmp_path, classes=2)).pixels[0, 0]
    assert pixels.astype(int) == pytest.approx(ramp / 257, abs=1)
    assert pixels[0, 0] == 0
    assert pixels[-1, -1] == 255


def test_labels_may_be_whole_numbers_in_any_number_type(tmp_path: Path) -> None:
    for labels in (np.array([0.0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 0, 1, 2], np.uint8)):
        assert labels_of(load_dataset(config(write_npz(tmp_path / "a.npz", labels=labels)))) == [0, 1, 2, 0, 1, 2]


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, ["a/1.png", "b/2.png"])
    path = tmp_path / "b/2.png"
    path.write_bytes(path.read_bytes()[:40])
    error = refusal(config(tmp_path, classes=2))
    assert error.path == "spec.dataset.uri"
    assert str(path) in error.why


def test_pickles_in_an_npz_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.array([{"a": 1}], dtype=object))
    error = refusal(config(path))
    assert error.path == "spec.dataset.uri"
    assert "it holds Python objects, not numbers" in error.why


@pytest.mark.parametrize("content", [b"hello", b"", b"\x80\x04K\x01."], ids=["text", "nothing", "a pickle"])
def test_nobody_is_told_to_unpickle_what_is_no_npz(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    assert "(it is no zip archive): copy it again" in refusal(config(path)).why


@pytest.mark.parametrize(
    ("arrays", "path", "words"),
    [
        ({"images": None}, "spec.dataset.uri", "give the pixels that name"),
        ({"images": np.zeros((0, 8, 8), np.uint8), "labels": None}, "spec.dataset.uri", "holds no samples"),
        ({"images": np.zeros((6, 7, 7), np.uint8)}, "spec.model.denoiser.sampleSize", "7x7"),
        ({"images": np.zeros((6, 3, 8, 8), np.uint8)}, "spec.model.denoiser.channels", "3 channels"),
        ({"images": np.zeros(6, np.uint8)}, "spec.dataset.uri", "it must be numbers"),
        ({"images": np.full((6, 8, 8), np.nan)}, "spec.dataset.uri", "NaN"),
        ({"labels": None}, "spec.model.conditioning.type", "has no labels"),
        ({"labels": np.arange(5)}, "spec.dataset.uri", "there are 6 images: store one number for each"),
        ({"labels": np.array([0, 1, 2, 0.5, 1, 2])}, "spec.dataset.uri", "holds fractions"),
        ({"labels": np.array([0, 1, 2, np.nan, 1, 2])}, "spec.dataset.uri", "holds fractions or NaN"),
        ({"labels": np.array(["cat", "dog"] * 3)}, "spec.dataset.uri", "number the classes from 0"),
        ({"labels": np.arange(6)}, "spec.model.conditioning.classes", "set classes to 6 or more"),
        ({"labels": np.array([-1] * 6)}, "spec.dataset.uri", "number the classes from 0"),
    ],
)
def test_what_does_not_fit_the_model_names_the_field(
    tmp_path: Path, arrays: dict[str, Any], path: str, words: str
) -> None:
    error = refusal(config(write_npz(tmp_path / "a.npz", **arrays)))
    assert error.path == path
    assert words in error.why


def test_missing_and_empty_places(tmp_path: Path) -> None:
    missing = refusal(config(tmp_path / "none.npz"))
    assert (missing.path, "does not exist" in missing.why) == ("spec.dataset.uri", True)
    assert "holds no .png or .jpg images" in refusal(config(tmp_path)).why
    write_images(tmp_path, ["a/1.png", "loose.png"])
    assert "put each image into one class folder" in refusal(config(tmp_path)).why
