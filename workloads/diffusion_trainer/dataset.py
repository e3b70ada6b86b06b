"""Where samples come from: the digits that scikit-learn brings, an `.npz`, or a folder of images.

Everything is checked here, once, before the first step: that it is there and not empty, that its digest is the one
asked for, that every image can be read, and that shapes and labels fit the model. What does not fit is refused with
the field and the remedy. The whole dataset is held in memory, in the type in which it is stored.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from diffusion_contract.digest import sha256_of
from diffusion_contract.run_config import ModelSpec, RunConfig
from diffusion_core.normalization import Normalization, measure_normalization
from diffusion_trainer.dataset_digest import dataset_digest
from diffusion_trainer.dataset_faults import MALFORMED, URI, raise_if_passing, read_or_refuse
from diffusion_trainer.image_folder import read_folder
from diffusion_trainer.refusal import ConfigurationRefused

DIGEST = "spec.dataset.digest"
Samples = tuple[NDArray[np.generic], NDArray[np.int64] | None]
"""Pixels [N, C, H, W] and labels [N], before anything was checked against the model."""
_MOST_CLASSES = 2**31


@dataclass(frozen=True)
class Dataset:
    """All samples: `pixels` [N, C, H, W] as stored, `labels` int64 [N] or None where the model asks for none."""

    pixels: NDArray[np.generic]
    labels: NDArray[np.int64] | None
    digest: str
    normalization: Normalization
    """The range of the pixels, measured over all of them."""

    def __len__(self) -> int:
        return len(self.pixels)


def load_dataset(config: RunConfig) -> Dataset:
    """Load and check the dataset of a run; raises ConfigurationRefused with the field at fault."""
    uri = config.dataset.uri
    if uri == "builtin://digits":
        pixels, labels = read_digits()
        digest = sha256_of(pixels.tobytes() + np.asarray(labels).tobytes())
    else:
        path = Path(unquote(urlsplit(uri).path))
        digest = read_or_refuse(dataset_digest, path)
        _refuse_other_digest(config, digest)
        pixels, labels = (read_folder if path.is_dir() else _read_npz)(path, config.model)
    _refuse_other_digest(config, digest)
    if len(pixels) == 0:
        raise ConfigurationRefused(URI, f"{uri} holds no samples: put at least one in, or name another dataset")
    _check_shape(pixels, config.model)
    labels = _checked_labels(labels, len(pixels), config.model)
    return Dataset(np.ascontiguousarray(pixels), labels, digest, _measured(pixels, uri))


def read_digits() -> Samples:
    """scikit-learn's 1,797 hand-written digits: float32 [N, 1, 8, 8] in 0..16, labels 0..9."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.float32)[:, None], digits.target.astype(np.int64)


def _refuse_other_digest(config: RunConfig, digest: str) -> None:
    asked = config.dataset.digest
    if asked is not None and asked != digest:
        raise ConfigurationRefused(
            DIGEST,
            f"{config.dataset.uri} has the digest {digest}, not {asked}: restore the data that was meant, "
            "or write the digest that `diffusion-trainer digest PATH` prints",
        )


def _read_npz(path: Path, model: ModelSpec) -> Samples:
    """`images` of an .npz, and its `labels` where the model asks for them."""
    asked = ("images",) if model.conditioning.classes is None else ("images", "labels")
    try:
        arrays = _read_arrays(path, asked)
    except ConfigurationRefused:
        raise
    except (OSError, *MALFORMED) as error:
        raise_if_passing(error)
        words = "it holds Python objects, not numbers" if "allow_pickle" in str(error) else str(error)
        why = f"{path} is no complete .npz file ({words})"
        raise ConfigurationRefused(URI, f"{why}: copy it again, or write it with numpy.savez") from error
    images, labels = arrays["images"], arrays.get("labels")
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and _channels_come_last(images.shape[1:], model):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.dtype.kind not in "uif":
        raise ConfigurationRefused(
            URI,
            f"`images` in {path} is {images.dtype} {list(images.shape)}: it must be numbers [N, H, W] or [N, C, H, W]",
        )
    return _native(images), None if labels is None else _whole_numbers(labels, path)


def _read_arrays(path: Path, asked: tuple[str, ...]) -> dict[str, NDArray[np.generic]]:
    """Those of the arrays that are there, `images` among them. Raises OSError, or one of MALFORMED."""
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):  # numpy would take it for a pickle, and say how to open one
            raise ValueError("it is no zip archive")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as archive:
            if "images" not in archive:
                raise ConfigurationRefused(
                    URI,
                    f"{path} has no array `images` (it has: {', '.join(archive.files) or 'nothing'}): "
                    "give the pixels that name, and the classes `labels`",
                )
            arrays = {name: archive[name] for name in asked if name in archive}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"`{name}` is no array")
    return arrays


def _channels_come_last(shape: tuple[int, ...], model: ModelSpec) -> bool:
    """Whether one image is [H, W, C]: as the model says, or else (it will be refused) by what is usual."""
    size, channels = model.denoiser.sample_size, model.denoiser.channels
    if (size, size, channels) == shape != (channels, size, size):
        return True
    return shape[0] not in (1, 3, 4) and shape[2] in (1, 3, 4)


def _native(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The numbers in this machine's byte order and at most 64 bits each: torch takes no others."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _whole_numbers(labels: NDArray[np.generic], path: Path) -> NDArray[np.int64]:
    """Labels as int64, whatever number type they are stored in; refuses what is no whole number from 0."""
    if labels.dtype.kind not in "uifb":
        raise ConfigurationRefused(
            URI, f"`labels` in {path} is {labels.dtype}: number the classes from 0 and store those numbers"
        )
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise ConfigurationRefused(URI, f"`labels` in {path} holds fractions or NaN: a class is a whole number from 0")
    if labels.size and not 0 <= labels.min() <= labels.max() < _MOST_CLASSES:
        raise ConfigurationRefused(
            URI, f"`labels` in {path} goes from {labels.min()} to {labels.max()}: number the classes from 0"
        )
    return labels.astype(np.int64)


def _check_shape(pixels: NDArray[np.generic], model: ModelSpec) -> None:
    channels, height, width = pixels.shape[1:]
    wanted = model.denoiser
    if channels != wanted.channels:
        raise ConfigurationRefused(
            "spec.model.denoiser.channels",
            f"the dataset has {channels} channels, the model {wanted.channels}: make them equal",
        )
    if (height, width) != (wanted.sample_size, wanted.sample_size):
        raise ConfigurationRefused(
            "spec.model.denoiser.sampleSize",
            f"the dataset's images are {height}x{width}, the model's side is {wanted.sample_size}: make them equal",
        )


def _checked_labels(labels: NDArray[np.int64] | None, count: int, model: ModelSpec) -> NDArray[np.int64] | None:
    classes = model.conditioning.classes
    if classes is None:
        return None
    path = "spec.model.conditioning"
    if labels is None:
        raise ConfigurationRefused(
            f"{path}.type", "the dataset has no labels: add `labels` or class folders, or set the type to None"
        )
    if labels.shape != (count,):
        raise ConfigurationRefused(
            URI, f"`labels` has the shape {list(labels.shape)}, but there are {count} images: store one number for each"
        )
    if labels.max() >= classes:
        raise ConfigurationRefused(
            f"{path}.classes",
            f"labels go from {labels.min()} to {labels.max()}: set classes to {labels.max() + 1} or more",
        )
    return labels


def _measured(pixels: NDArray[np.generic], uri: str) -> Normalization:
    try:
        return measure_normalization(pixels)
    except ValueError as error:
        raise ConfigurationRefused(URI, f"{uri} cannot be brought to -1..1: {error}") from error
