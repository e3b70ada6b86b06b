"""From a dataset of one's own to a model version: its digest and its range of values go all the way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_samples import write_npz
from diffusion_contract.model_reference import parse_model_reference
from diffusion_core.model_folder import load_model_folder
from diffusion_registry.verification import open_model_version, read_model_version
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import read_manifest
from diffusion_trainer.dataset_digest import dataset_digest
from trainer_in_process import SHORT, steps_folder, train_here
from trainer_workers import run_document

pytestmark = pytest.mark.usefixtures("one_thread")
OwnData = tuple[Path, float, float]
"""Where it lies, and its lowest and highest value."""


def numbers(folder: Path) -> OwnData:
    """An `.npz` of fp32 numbers."""
    images = np.linspace(-3, 5, 6 * 64, dtype=np.float32).reshape(6, 8, 8)
    return write_npz(folder / "a.npz", images=images), -3.0, 5.0


def pictures(folder: Path) -> OwnData:
    """Class folders of grey pictures of another size."""
    for number, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png")):
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 12), 100 * number).save(folder / "set" / name)
    return folder / "set", 0.0, 255.0


@pytest.mark.parametrize("make", [numbers, pictures])
def test_digest_and_range_of_a_dataset_reach_checkpoint_and_model_version(
    tmp_path: Path, make: Callable[[Path], OwnData]
) -> None:
    path, low, high = make(tmp_path)
    digest = dataset_digest(path)
    model = {**run_document()["model"], "conditioning": {"type": "Class", "classes": 3}}
    dataset = {"uri": f"file://{path}", "digest": digest}
    code, said = train_here(tmp_path / "run", dataset=dataset, model=model, training=SHORT)
    assert code == 0
    folder = steps_folder(tmp_path / "run") / committed_name(8)
    assert read_manifest(folder).data.dataset_digest == digest
    published = said[-1].published
    assert published is not None
    reference, models = parse_model_reference(published.reference), tmp_path / "run" / "models"
    assert read_model_version(models, reference).lineage.dataset.digest == digest
    loaded = load_model_folder(open_model_version(models, reference, tmp_path / "opened"))
    assert (loaded.normalization.minimum, loaded.normalization.maximum) == ((low,), (high,))
