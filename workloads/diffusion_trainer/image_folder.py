"""A folder of images as torchvision's ImageFolder reads it: each subfolder a class, in the order of their names.

That reader's rules are what people lay such folders out for, so they hold here too: these endings and no others, at
any depth below a class folder, and no class folder without an image, since its number would be missing. Two
differences: what is hidden does not count, and a model without classes takes every image wherever it lies.
"""

import logging
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from diffusion_contract.run_config import ModelSpec
from diffusion_trainer.dataset_digest import relative_files
from diffusion_trainer.dataset_faults import MALFORMED, URI, raise_if_passing, read_or_refuse
from diffusion_trainer.refusal import ConfigurationRefused

log = logging.getLogger(__name__)
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WHITE_16_BITS = 65535
_MOST_NAMED = 5


def read_folder(folder: Path, model: ModelSpec) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Pixels uint8 [N, C, H, W] of all images, in byte order of their paths, and their classes [N].

    These are None for a model without classes, and for a folder without subfolders. Raises ConfigurationRefused.
    """
    files = read_or_refuse(relative_files, folder)
    names = [name for name in files if name.lower().endswith(ENDINGS)]
    others = _endings([name for name in files if not name.lower().endswith(ENDINGS)])
    if not names:
        there = f", only {others}" if others else ""
        raise ConfigurationRefused(
            URI, f"{folder} holds no images ({' '.join(ENDINGS)}){there}: put some in, or correct the path"
        )
    if others:
        log.warning("%s: files whose names are not of images are passed over: %s", folder, others)
    labels = None if model.conditioning.classes is None else _labels(folder, names)
    return np.stack([_read_image(folder / name, model) for name in names]), labels


def _endings(names: list[str]) -> str:
    """How many of these files end how: `.gif (3), .txt (1)`."""
    counts = Counter(PurePath(name).suffix.lower() or "without an ending" for name in names).most_common()
    more = [f"{sum(count for _ending, count in counts[_MOST_NAMED:])} others"] if len(counts) > _MOST_NAMED else []
    return ", ".join([f"{ending} ({count})" for ending, count in counts[:_MOST_NAMED]] + more)


def _labels(folder: Path, names: list[str]) -> NDArray[np.int64] | None:
    """The class of each image by the name of its subfolder; None where there are none."""
    used = {name.split("/")[0] for name in names if "/" in name}
    if not used:
        return None
    if loose := [name for name in names if "/" not in name]:
        raise ConfigurationRefused(
            URI, f"{folder} has images beside its class folders ({loose[0]}): put each image into one class folder"
        )
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if empty := [name for name in classes if name not in used]:
        named = ", ".join(empty[:_MOST_NAMED]) + (
            f" and {len(empty) - _MOST_NAMED} more" if empty[_MOST_NAMED:] else ""
        )
        raise ConfigurationRefused(
            URI, f"{folder} has class folders without an image ({named}): put some in, or remove these folders"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name.split("/")[0]] for name in names], np.int64)


def _read_image(path: Path, model: ModelSpec) -> NDArray[np.uint8]:
    """One image, cropped to its central square and scaled to the model's size: uint8 [C, H, W]."""
    size = model.denoiser.sample_size
    if model.denoiser.channels not in _MODES:
        raise ConfigurationRefused("spec.model.denoiser.channels", "a folder of images needs 1, 3 or 4 channels")
    try:
        with Image.open(path) as image:
            eight_bits = _in_eight_bits(image).convert(_MODES[model.denoiser.channels])
            fitted = ImageOps.fit(eight_bits, (size, size), Image.Resampling.BOX)
    except (OSError, Image.DecompressionBombError, *MALFORMED) as error:
        raise_if_passing(error)
        raise ConfigurationRefused(
            URI, f"{path} is no complete image ({error}): copy it again or remove it, and write the new digest"
        ) from error
    array = np.asarray(fitted, np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits a pixel (grey PNG or TIFF), scaled to 8: Pillow would cut every value above 255 off.

    Raises ValueError for other numbers than those of 16 bits: nobody knows which of them is white.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > _WHITE_16_BITS:
        raise ValueError(f"its pixels are {values.dtype} from {values.min()} to {values.max()}, not of 8 or 16 bits")
    return Image.fromarray((values.astype(np.uint32) * 255 // _WHITE_16_BITS).astype(np.uint8))
