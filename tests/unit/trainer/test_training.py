"""Training in one process: the exact mean over slices, and a resumed run that is equal to the last bit."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diffusion_contract.checkpoint_manifest import identity_digest, run_digest
from diffusion_contract.model_reference import parse_model_reference
from diffusion_contract.run_config import TrainingSpec
from diffusion_core.schedules import noise_schedule_hash
from diffusion_registry.verification import read_model_version
from diffusion_trainer import finish, live_config, rng, training_loop
from diffusion_trainer.checkpoint.names import committed_name, committed_steps
from diffusion_trainer.checkpoint.verification import read_manifest, verify_checkpoint
from diffusion_trainer.code_version import code_version
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.learning_rate import learning_rate
from diffusion_trainer.live_config import LiveConfig, read_config
from diffusion_trainer.process_messages import Orders, ProcessUpdate
from diffusion_trainer.training_state import RNG, SHARDS, build_state
from trainer_in_process import ALONE, EVERY_FOUR, SHORT, OneOf, alone, steps_folder, train_here, training_without_saves
from trainer_workers import run_document

pytestmark = pytest.mark.usefixtures("one_thread")


def shard_digests(folder: Path, step: int) -> dict[str, str]:
    manifest = verify_checkpoint(steps_folder(folder) / committed_name(step)).manifest
    return {name: file.sha256 for name, file in manifest.files.items()}


def stop_at(step: int) -> Callable[[ProcessUpdate, Inbox], None]:
    """What tells a trainer to stop when it has made a step."""

    def stop(update: ProcessUpdate, inbox: Inbox) -> None:
        if update.step == step:
            inbox.take(Orders(instruction=ALONE.model_copy(update={"stop": True})))

    return stop


def test_a_resumed_run_is_equal_to_an_unbroken_one_to_the_last_bit(tmp_path: Path) -> None:
    code, _said = train_here(tmp_path / "unbroken", training=SHORT, checkpoint=EVERY_FOUR)
    assert code == 0

    broken = tmp_path / "broken"
    code, said = train_here(broken, stop_at(5), training=SHORT, checkpoint=EVERY_FOUR)
    assert code == 75
    stopped_at = committed_steps(steps_folder(broken))[0]
    assert 5 <= stopped_at < 8
    code, said = train_here(broken, training=SHORT, checkpoint=EVERY_FOUR, attempt=1)
    assert code == 0
    assert next(update.step for update in said if update.state == "Training") == stopped_at
    assert shard_digests(broken, 8) == shard_digests(tmp_path / "unbroken", 8)
    resumed, unbroken = (
        read_manifest(steps_folder(tmp_path / name) / committed_name(8)) for name in ("broken", "unbroken")
    )
    differing = {"attempt", "created", "parent", "metrics"}
    assert resumed.model_dump(exclude=differing) == unbroken.model_dump(exclude=differing)
    assert resumed.parent == read_manifest(steps_folder(broken) / committed_name(stopped_at)).reference().digest


def test_drop_out_in_the_network_resumes_with_the_same_masks(tmp_path: Path) -> None:
    model = run_document()["model"]
    model["denoiser"]["config"] = {**model["denoiser"]["config"], "dropout": 0.3}
    fields = {"model": model, "checkpoint": EVERY_FOUR, "training": SHORT}
    train_here(tmp_path / "unbroken", **fields)
    train_here(tmp_path / "broken", **{**fields, "training": {**SHORT, "targetSteps": 4}})
    code, _said = train_here(tmp_path / "broken", attempt=1, **fields)
    assert code == 0
    assert shard_digests(tmp_path / "broken", 8) == shard_digests(tmp_path / "unbroken", 8)


def test_a_finished_run_published_again_has_the_same_digest(tmp_path: Path) -> None:
    code, said = train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR)
    first = next(update.published for update in said if update.published)
    code, said = train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR, attempt=1)
    assert code == 0
    assert next(update.published for update in said if update.published) == first
    version = read_model_version(tmp_path / "models", parse_model_reference(first.reference))
    assert version.lineage.samples_seen == 40
    assert version.lineage.dataset.samples == 1797
    config = read_config(tmp_path / "run.json")
    assert version.lineage.run.config_digest == run_digest(config)
    assert version.lineage.run.training == config.training


def test_a_checkpoint_holds_every_state_there_is(tmp_path: Path) -> None:
    train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR)
    folder = steps_folder(tmp_path) / committed_name(8)
    manifest = read_manifest(folder)
    assert set(manifest.files) == {"model.safetensors", "ema.safetensors", "optimizer.safetensors", RNG}
    assert (manifest.step, manifest.samples_seen, manifest.world_size, manifest.attempt) == (8, 40, 1, 0)
    assert (manifest.ema.updates, manifest.optimizer.updates, manifest.learning_rate.step) == (8, 8, 8)
    assert (manifest.data.epoch, manifest.data.offset, manifest.data.dataset_size) == (0, 40, 1797)
    config = read_config(tmp_path / "run.json")
    assert (manifest.config_digest, manifest.code) == (identity_digest(config), code_version())
    assert manifest.noise_schedule == noise_schedule_hash(config.diffusion)
    assert (manifest.ema.decay, manifest.learning_rate.learning_rate) == (0.999, 0.001)
    assert "loss" in manifest.metrics
    model, average, optimizer, generators = (load_file(folder / name) for name in SHARDS)
    assert {tensor.dtype for tensor in (model | average | optimizer).values()} == {torch.float32}
    assert average.keys() == model.keys()
    assert optimizer.keys() == {f"{moment}.{name}" for moment in ("exp_avg", "exp_avg_sq") for name in model}
    assert generators["rng"].shape == (1, len(rng.capture()))
    assert sorted(entry.name for entry in folder.iterdir()) == sorted([*manifest.files, "MANIFEST.json"])


@pytest.mark.parametrize(("batch", "world"), [(5, 3), (2, 3), (7, 2), (6, 3)])
def test_the_mean_over_uneven_slices_is_the_mean_over_the_batch(tmp_path: Path, batch: int, world: int) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_document(training={"targetSteps": 4, "globalBatchSize": batch})))
    live = LiveConfig(path)
    state = build_state(live.current, torch.device("cpu"))
    with alone() as group:
        training = training_without_saves(group, state, live)

        def gradients(rank: int, world: int) -> tuple[torch.Tensor, float]:
            training.group = OneOf(rank, world)
            state.optimizer.zero_grad(set_to_none=True)
            loss = training._backward(live.current, seen=11)
            found = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
            return torch.cat([gradient.reshape(-1) for gradient in found]), loss

        whole, loss = gradients(0, 1)
        parts = [gradients(rank, world) for rank in range(world)]
        training.close()
    mean = torch.stack([gradient for gradient, _loss in parts]).mean(dim=0)  # what DDP's all-reduce gives every rank
    torch.testing.assert_close(mean, whole, rtol=1e-4, atol=1e-6)
    assert sum(part for _gradient, part in parts) == pytest.approx(loss, rel=1e-5)


def test_bf16_computes_in_another_precision_and_keeps_every_state_in_fp32(tmp_path: Path) -> None:
    states = []
    for precision in ("FP32", "BF16"):
        training = {**SHORT, "targetSteps": 2, "precision": precision}
        assert train_here(tmp_path / precision, training=training, publish=None)[0] == 0
        folder = steps_folder(tmp_path / precision) / committed_name(2)
        states.append({name: tensor for shard in SHARDS[:3] for name, tensor in load_file(folder / shard).items()})
    assert {tensor.dtype for state in states for tensor in state.values()} == {torch.float32}
    changed = [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]
    assert changed
    for name in changed:
        torch.testing.assert_close(states[1][name], states[0][name], rtol=0.1, atol=0.02)


def test_a_damaged_final_checkpoint_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "_RETRY_SECONDS", 0.05)
    damaged: list[Path] = []

    def damage_the_last(update: ProcessUpdate, _inbox: Inbox) -> None:
        if update.committed and update.committed.step == 8 and not damaged:
            damaged.append(steps_folder(tmp_path) / committed_name(8) / "model.safetensors")
            damaged[0].write_bytes(b"damaged")

    code, said = train_here(tmp_path, damage_the_last, training=SHORT, checkpoint=EVERY_FOUR, publish=None)
    assert code == 0
    assert damaged
    assert verify_checkpoint(steps_folder(tmp_path) / committed_name(8)).reference == said[-1].committed


def test_a_checkpoint_that_was_passed_over_is_nobodys_parent(tmp_path: Path) -> None:
    train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR, publish=None)
    (steps_folder(tmp_path) / committed_name(8) / "model.safetensors").write_bytes(b"damaged")
    longer: dict[str, Any] = {
        "training": {**SHORT, "targetSteps": 10},
        "checkpoint": {"interval": {"steps": 9}, "retain": {"last": 9}},
    }
    code, said = train_here(tmp_path, attempt=1, publish=None, **longer)
    assert code == 0
    assert [passed.step for update in said for passed in update.passed_over or ()] == [8]
    fourth, ninth, tenth = (read_manifest(steps_folder(tmp_path) / committed_name(step)) for step in (4, 9, 10))
    assert ninth.parent == fourth.reference().digest
    assert tenth.parent == ninth.reference().digest


def test_the_memory_of_snapshots_is_there_before_the_first_step(tmp_path: Path) -> None:
    images: list[str] = []

    def look(update: ProcessUpdate, _inbox: Inbox) -> None:
        if update.state == "Ready":
            links = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
            images.extend(link for link in links if link.startswith("/memfd:checkpoint-"))

    train_here(tmp_path, look, training={**SHORT, "targetSteps": 1}, publish=None)
    assert any("model.safetensors" in image for image in images)


def test_the_rate_follows_the_target_that_a_peer_has_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cosine = {"learningRateSchedule": {"type": "Cosine"}}
    seen: list[int] = []

    def with_a_peer_that_aims_at_twenty(group: Group, row: Sequence[float]) -> torch.Tensor:
        rows = torch.tensor([row, row], dtype=torch.float64)
        if len(row) == 1:  # the targets, before the first step
            rows[1, 0] = 20
        return rows

    def note(step: int, training: TrainingSpec, target: int) -> float:
        seen.append(target)
        return learning_rate(step, training, target)

    monkeypatch.setattr(Group, "gather", with_a_peer_that_aims_at_twenty)
    monkeypatch.setattr(training_loop, "learning_rate", note)
    train_here(tmp_path, stop_at(3), training={**SHORT, **cosine}, publish=None)
    assert set(seen) == {20}


def test_a_target_that_is_raised_while_the_run_goes_on_is_the_new_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_config, "_LOOK_SECONDS", 0.0)

    def raise_target(update: ProcessUpdate, inbox: Inbox) -> None:
        if update.state == "Training":
            (tmp_path / "new.json").write_text(json.dumps(run_document(training={**SHORT, "targetSteps": 11})))
            (tmp_path / "new.json").rename(tmp_path / "run.json")

    code, _said = train_here(tmp_path, raise_target, training=SHORT, publish=None)
    assert code == 0
    assert committed_steps(steps_folder(tmp_path))[0] == 11
