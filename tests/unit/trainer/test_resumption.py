"""What a new attempt makes of the checkpoints that it finds."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion_contract.checkpoint_manifest import MANIFEST_NAME, ShardFile
from diffusion_trainer import rng
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import file_digest, read_manifest
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.process_messages import ProcessUpdate
from trainer_in_process import steps_folder, train_here

pytestmark = pytest.mark.usefixtures("one_thread")
RUN: dict[str, Any] = {
    "training": {"targetSteps": 4, "globalBatchSize": 5},
    "checkpoint": {"interval": {"steps": 2}},
    "publish": None,
}
LONGER: dict[str, Any] = {**RUN, "training": {"targetSteps": 5, "globalBatchSize": 5}}


def newest(folder: Path) -> Path:
    return steps_folder(folder) / committed_name(4)


def commit_anew(checkpoint: Path) -> None:
    """Write the manifest that the files as they are now would have."""
    names = [path.name for path in checkpoint.iterdir() if path.name != MANIFEST_NAME]
    files = {
        name: ShardFile(size=(checkpoint / name).stat().st_size, sha256=file_digest(checkpoint / name))
        for name in names
    }
    manifest = read_manifest(checkpoint).model_copy(update={"files": files})
    (checkpoint / MANIFEST_NAME).write_bytes(manifest.to_bytes())


def resumed_at(said: list[ProcessUpdate]) -> int | None:
    return next(update.step for update in said if update.state == "Training")


@pytest.mark.parametrize("name", ["model", "ema", "optimizer", "rng"])
def test_a_checkpoint_without_one_of_its_shards_is_passed_over(tmp_path: Path, name: str) -> None:
    train_here(tmp_path, **RUN)
    (newest(tmp_path) / f"{name}.safetensors").unlink()
    commit_anew(newest(tmp_path))
    code, said = train_here(tmp_path, attempt=1, **LONGER)
    assert (code, resumed_at(said)) == (0, 2)
    assert [(passed.step, passed.reason) for update in said for passed in update.passed_over or ()] == [
        (4, f"MANIFEST.json does not name {name}.safetensors")
    ]


@pytest.mark.parametrize("change", ["another shape", "another name"])
def test_tensors_of_another_network_are_refused_with_the_image_that_wrote_them(tmp_path: Path, change: str) -> None:
    """As after an update of the libraries: copied into the network, a smaller tensor would fill a larger one."""
    train_here(tmp_path, **RUN)
    path = newest(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 1)
    tensor = tensors.pop(name)
    save_file(tensors | ({name: tensor[:1].clone()} if change == "another shape" else {"other": tensor}), path)
    commit_anew(newest(tmp_path))
    code, said = train_here(tmp_path, attempt=1, **LONGER)
    assert (code, said[-1].refused_path) == (64, "spec.workers.image")
    assert "go on with the image that wrote it" in str(said[-1].message)
    assert name in str(said[-1].message)


def test_all_generators_go_on_where_the_checkpoint_left_them(tmp_path: Path) -> None:
    train_here(tmp_path, **RUN)
    stored = load_file(newest(tmp_path) / "rng.safetensors")["rng"]
    found: list[torch.Tensor] = []

    def look(update: ProcessUpdate, _inbox: Inbox) -> None:
        if update.state == "Training":
            found.append(rng.capture())

    random.seed(0)
    train_here(tmp_path, look, attempt=1, **LONGER)
    assert torch.equal(torch.stack(found), stored)


def test_generators_of_another_build_start_anew(tmp_path: Path) -> None:
    train_here(tmp_path, **RUN)
    save_file({"rng": torch.zeros(1, 7, dtype=torch.uint8)}, newest(tmp_path) / "rng.safetensors")
    commit_anew(newest(tmp_path))
    code, said = train_here(tmp_path, attempt=1, **LONGER)
    assert (code, resumed_at(said)) == (0, 4)


def test_the_pointer_names_what_a_run_went_on_from(tmp_path: Path) -> None:
    train_here(tmp_path, **RUN)
    (newest(tmp_path) / "ema.safetensors").write_bytes(b"damaged")
    pointers = []

    def look(update: ProcessUpdate, _inbox: Inbox) -> None:
        if update.state == "Training":
            pointers.append((steps_folder(tmp_path) / "latest").read_text())

    train_here(tmp_path, look, attempt=1, **RUN)
    assert pointers == ["step-00000002\n"]
    assert (steps_folder(tmp_path) / "latest").read_text() == "step-00000004\n"


def test_fields_changed_by_hand_are_passed_over(tmp_path: Path) -> None:
    """Whoever edits a manifest does not write it as it was written: its digest is that of its bytes."""
    train_here(tmp_path, **RUN)
    path = newest(tmp_path) / MANIFEST_NAME
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | {"samplesSeen": 1}))
    code, said = train_here(tmp_path, attempt=1, **LONGER)
    assert (code, resumed_at(said)) == (0, 2)
