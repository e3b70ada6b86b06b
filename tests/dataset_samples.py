"""Small datasets on disk, runs that name them, and what is said of those that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffusion_contract.run_config import RunConfig
from diffusion_trainer.dataset import Dataset, load_dataset
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
