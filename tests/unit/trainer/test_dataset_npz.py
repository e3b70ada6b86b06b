"""An .npz of any common layout and number type is read; one that is torn or does not fit is refused."""

import contextlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataset_samples import config, labels_of, refusal, write_npz
from diffusion_trainer.dataset import load_dataset
from diffusion_trainer.dataset_digest import dataset_digest
from diffusion_trainer.refusal import ConfigurationRefused


def test_an_npz_with_any_common_layout(tmp_path: Path) -> None:
    for shape in ((6, 8, 8), (6, 1, 8, 8), (6, 8, 8, 1)):
        path = write_npz(tmp_path / f"{len(shape)}{shape[1]}.npz", images=np.zeros(shape, np.uint8))
        found = load_dataset(config(path, digest=dataset_digest(path)))
        assert found.pixels.shape == (6, 1, 8, 8)
        assert labels_of(found) == [0, 1, 2, 0, 1, 2]


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


@pytest.mark.parametrize("kind", [">f4", ">u2", ">i8", "<f2", "g", "u4", "i1"])
def test_numbers_of_any_width_and_byte_order(tmp_path: Path, kind: str) -> None:
    images = np.arange(2 * 64).reshape(2, 8, 8)
    found = load_dataset(config(write_npz(tmp_path / "a.npz", images=images.astype(kind), labels=None), classes=None))
    in_range = found.normalization.to_model(torch.from_numpy(found.pixels))
    torch.testing.assert_close(in_range[:, 0], torch.from_numpy(images / 127 * 2 - 1).float())


def test_labels_that_the_model_does_not_ask_for_are_not_looked_at(tmp_path: Path) -> None:
    for labels in (np.array(["cat", "dog"] * 3), np.array([{}] * 6, object), np.arange(4)):
        assert load_dataset(config(write_npz(tmp_path / "a.npz", labels=labels), classes=None)).labels is None


def test_the_model_says_where_the_channels_are(tmp_path: Path) -> None:
    images = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    path = write_npz(tmp_path / "a.npz", images=images, labels=None)
    assert (load_dataset(config(path, None, None, size=4, channels=3)).pixels == images.transpose(0, 3, 1, 2)).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20))
@example(flips=[(0.999, 255), (0.99, 255)])
def test_an_npz_with_any_bytes_changed_is_read_or_refused(tmp_path: Path, flips: list[tuple[float, int]]) -> None:
    content = bytearray(write_npz(tmp_path / "a.npz").read_bytes())
    for place, value in flips:
        content[int(place * len(content))] = value
    (tmp_path / "b.npz").write_bytes(content)
    with contextlib.suppress(ConfigurationRefused):
        load_dataset(config(tmp_path / "b.npz"))


@pytest.mark.parametrize("member", ["images", "images.npy"])
def test_an_npz_whose_images_are_no_array(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(member, b"some bytes")
    assert "`images` is no array" in refusal(config(tmp_path / "a.npz")).why


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.npz"])
def test_a_file_of_another_kind_is_not_called_a_pickle(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x04]\x94.")
    assert "(it is no zip archive): copy it again" in refusal(config(path)).why


def test_labels_may_be_whole_numbers_in_any_number_type(tmp_path: Path) -> None:
    for labels in (np.array([0.0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 0, 1, 2], np.uint8)):
        assert labels_of(load_dataset(config(write_npz(tmp_path / "a.npz", labels=labels)))) == [0, 1, 2, 0, 1, 2]


def test_pickles_in_an_npz_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.array([{"a": 1}], dtype=object))
    error = refusal(config(path))
    assert error.path == "spec.dataset.uri"
    assert "it holds Python objects, not numbers" in error.why


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
        ({"labels": np.array([-1] * 6)}, "spec.dataset.uri", "goes from -1 to -1: number the classes from 0"),
        ({"labels": np.full(6, 2**64 - 1, np.uint64)}, "spec.dataset.uri", "number the classes from 0"),
        ({"labels": np.full(6, 1e300)}, "spec.dataset.uri", "number the classes from 0"),
        ({"images": np.full((6, 8, 8), np.inf)}, "spec.dataset.uri", "infinity"),
        ({"images": np.linspace(0, 1e300, 384).reshape(6, 8, 8)}, "spec.dataset.uri", "too large for fp32"),
        ({"images": 2**24 + np.tile(np.eye(8, dtype=int), (6, 1, 1))}, "spec.dataset.uri", "too close together"),
    ],
)
def test_what_does_not_fit_the_model_names_the_field(
    tmp_path: Path, arrays: dict[str, Any], path: str, words: str
) -> None:
    error = refusal(config(write_npz(tmp_path / "a.npz", **arrays)))
    assert error.path == path
    assert words in error.why
