"""Datasets that work, and a refusal with field and remedy for each that does not."""

import errno
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dataset_samples import config, labels_of, refusal, write_images, write_npz
from diffusion_trainer.dataset import load_dataset
from diffusion_trainer.dataset_digest import dataset_digest


def test_the_digits_are_there_with_a_digest_that_does_not_change() -> None:
    digits = load_dataset(config("builtin://digits", classes=10))
    assert digits.pixels.shape == (1797, 1, 8, 8)
    assert (digits.pixels.min(), digits.pixels.max()) == (0, 16)
    assert sorted(set(labels_of(digits))) == list(range(10))
    again = load_dataset(config("builtin://digits", digest=digits.digest, classes=10))
    assert again.digest == digits.digest


def test_a_flat_folder_serves_a_model_without_classes(tmp_path: Path) -> None:
    write_images(tmp_path, ["b.png", "a.png"])
    assert load_dataset(config(tmp_path, classes=None)).labels is None
    assert refusal(config(tmp_path)).path == "spec.model.conditioning.type"


def test_the_digest_of_a_folder_is_what_the_shell_computes(tmp_path: Path) -> None:
    write_images(tmp_path, ["b/2.png", "a/1.png", "a.png"])
    (tmp_path / "b/.DS_Store").write_bytes(b"a desktop's")
    write_images(tmp_path, [".ipynb_checkpoints/3.png"])
    (tmp_path / "c").symlink_to("b")
    files = "find -L . -name '.?*' -prune -o -type f -printf '%P\\n'"
    shell = f"{files} | LC_ALL=C sort | xargs -r -d '\\n' sha256sum | sha256sum"
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


def test_a_folder_of_a_config_map_is_the_images_that_it_shows(tmp_path: Path) -> None:
    """As the kubelet lays it out: links through `..data` to a folder whose name is another one in every pod."""
    digests = set()
    for pod in ("..2026_11_25_01", "..2026_11_25_02"):
        folder = tmp_path / pod.strip(".")
        write_images(folder / pod, ["1.png", "2.png"])
        (folder / "..data").symlink_to(pod)
        for name in ("1.png", "2.png"):
            (folder / name).symlink_to(f"..data/{name}")
        assert len(load_dataset(config(folder, classes=None))) == 2
        digests.add(dataset_digest(folder))
    assert len(digests) == 1


def test_what_is_hidden_or_no_file_is_no_sample(tmp_path: Path) -> None:
    write_images(tmp_path, ["a/1.png", "b/1.png", ".ipynb_checkpoints/1.png"])
    (tmp_path / "a/._1.png").write_bytes(b"a resource fork")
    os.mkfifo(tmp_path / "a/pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "b/s.png"))
        assert labels_of(load_dataset(config(tmp_path, classes=2))) == [0, 1]


@pytest.mark.parametrize("target", ["nowhere.png", "b"], ids=["to nothing", "to a folder above it"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, target: str) -> None:
    write_images(tmp_path, ["a/1.png", "b/1.png"])
    link = tmp_path / "b/link.png"
    link.symlink_to(tmp_path / target)
    error = refusal(config(tmp_path, classes=2))
    assert error.path == "spec.dataset.uri"
    assert "cannot be read" in error.why
    assert str(link) in error.why


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, ["a/1.png", "b/2.png"])
    path = tmp_path / "b/2.png"
    path.write_bytes(path.read_bytes()[:40])
    error = refusal(config(tmp_path, classes=2))
    assert error.path == "spec.dataset.uri"
    assert str(path) in error.why


def test_missing_and_empty_places(tmp_path: Path) -> None:
    missing = refusal(config(tmp_path / "none.npz"))
    assert (missing.path, "does not exist" in missing.why) == ("spec.dataset.uri", True)
    assert "holds no images (.jpg .jpeg .png" in refusal(config(tmp_path)).why
    write_images(tmp_path, ["a/1.png", "loose.png"])
    assert "put each image into one class folder" in refusal(config(tmp_path)).why
