"""Small checkpoints made with the real commit protocol, for tests of everything that reads, removes or damages them."""

from pathlib import Path

from diffusion_contract.agent_messages import CheckpointReference
from diffusion_contract.checkpoint_manifest import (
    CheckpointManifest,
    CodeVersion,
    DataPosition,
    EMAState,
    LearningRateState,
    OptimizerState,
    ShardFile,
)
from diffusion_trainer.checkpoint.commit import commit_checkpoint

DIGEST = "sha256:" + "a" * 64
RUN_UID = "run-uid"


def manifest_for(step: int, attempt: int = 0, files: dict[str, ShardFile] | None = None) -> CheckpointManifest:
    return CheckpointManifest(
        run_name="sample",
        run_uid=RUN_UID,
        attempt=attempt,
        generation=1,
        step=step,
        samples_seen=step * 8,
        world_size=1,
        created="2026-01-01T00:00:00Z",
        files=files or {},
        config_digest=DIGEST,
        noise_schedule=DIGEST,
        code=CodeVersion(version="0.1.0", digest=DIGEST),
        data=DataPosition(seed=0, epoch=0, offset=0, dataset_size=10, dataset_digest=DIGEST),
        ema=EMAState(updates=step, decay=0.9),
        optimizer=OptimizerState(type="AdamW", updates=step),
        learning_rate=LearningRateState(type="Constant", step=step, learning_rate=0.001),
    )


def shards_for(step: int) -> dict[str, bytes]:
    return {"model.safetensors": bytes([step % 251]) * 64, "ema.safetensors": bytes([step % 13, 7]) * 40}


def commit_sample(folder: Path, step: int, attempt: int = 0) -> CheckpointReference:
    return commit_checkpoint(folder, step, attempt, shards_for(step), lambda files: manifest_for(step, attempt, files))
