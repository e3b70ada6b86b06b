"""Folders of images as users of torchvision's ImageFolder lay them out."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_samples import config, labels_of, refusal, write_images
from diffusion_trainer.dataset import load_dataset
from diffusion_trainer.image_folder import ENDINGS


def test_a_folder_has_a_class_for_each_subfolder_and_fits_its_images(tmp_path: Path) -> None:
    write_images(tmp_path, ["cats/1.png", "cats/2.JPG", "dogs/1.jpeg"], size=(20, 12))
    (tmp_path / "cats/notes.txt").write_text("not an image")
    found = load_dataset(config(tmp_path, classes=2))
    assert found.pixels.shape == (3, 1, 8, 8)
    assert found.pixels.dtype == np.uint8
    assert labels_of(found) == [0, 0, 1]


def test_grey_images_of_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a/1.png")
    write_images(tmp_path, ["b/2.png"])
    pixels = load_dataset(config(tmp_path, classes=2)).pixels[0, 0]
    assert pixels.astype(int) == pytest.approx(ramp / 257, abs=1)
    assert pixels[0, 0] == 0
    assert pixels[-1, -1] == 255


@pytest.mark.parametrize("ending", [*ENDINGS, ".WebP"])
def test_every_kind_of_image_is_read(tmp_path: Path, ending: str) -> None:
    write_images(tmp_path, [f"a/1{ending}", "b/deeper/2.png"])
    found = load_dataset(config(tmp_path, classes=2))
    assert labels_of(found) == [0, 1]
    assert found.pixels.astype(int) == pytest.approx(40, abs=3)


def test_a_class_folder_without_an_image_is_refused_by_its_name(tmp_path: Path) -> None:
    """Its number would be missing, and all classes after it would have another one than the user counts."""
    write_images(tmp_path, ["cats/1.png", "eels/1.png", ".hidden/1.png"])
    (tmp_path / "birds").mkdir()
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs/1.txt").write_text("not an image")
    error = refusal(config(tmp_path, classes=4))
    assert error.path == "spec.dataset.uri"
    assert "class folders without an image (birds, dogs): put some in, or remove these folders" in error.why
    assert load_dataset(config(tmp_path, classes=None)).labels is None


def test_many_class_folders_without_an_image_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path, ["z/1.png"])
    for name in "abcdefg":
        (tmp_path / name).mkdir()
    assert "(a, b, c, d, e and 2 more)" in refusal(config(tmp_path)).why


def test_a_model_without_classes_takes_images_wherever_they_lie(tmp_path: Path) -> None:
    write_images(tmp_path, ["1.png", "a/2.png", "a/b/3.png"])
    assert len(load_dataset(config(tmp_path, classes=None))) == 3


def test_what_is_passed_over_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path, ["a/1.png", "a/2.gif", "a/3.GIF"])
    for name in ("a/README", "labels.csv"):
        (tmp_path / name).write_text("not an image")
    with caplog.at_level(logging.WARNING):
        load_dataset(config(tmp_path, classes=2))
    assert ".gif (2), " in caplog.text
    assert ".csv (1)" in caplog.text
    assert "without an ending (1)" in caplog.text
    (tmp_path / "a/1.png").unlink()
    assert ", only .gif (2), " in refusal(config(tmp_path)).why


@pytest.mark.parametrize("values", [[0.0, 1.0], [0, 65536], [-1, 255]], ids=["fractions", "large", "negative"])
def test_pixels_of_which_nobody_knows_what_is_white_are_refused(tmp_path: Path, values: list[float]) -> None:
    kind = np.float32 if isinstance(values[1], float) else np.int32
    Image.fromarray(np.array([values, values], kind)).save(tmp_path / "1.tif")
    error = refusal(config(tmp_path, classes=None))
    assert str(tmp_path / "1.tif") in error.why
    assert "not of 8 or 16 bits" in error.why
