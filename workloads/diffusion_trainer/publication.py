"""The end of a run: the averaged weights of the final checkpoint become a model version on the models' volume.

Everything that goes in comes from the checkpoint and the configuration, and the time is that of the commit: whoever
publishes the same checkpoint again, on another worker or after a crash, gets the same digest.
"""

import tempfile
from pathlib import Path

from safetensors.torch import load_file

from diffusion_contract.agent_messages import PublishedVersion
from diffusion_contract.checkpoint_manifest import CheckpointManifest, run_digest
from diffusion_contract.model_reference import ModelReference
from diffusion_contract.model_version import CheckpointLineage, DatasetLineage, Lineage, ModelVersionConfig, RunLineage
from diffusion_contract.run_config import PublishTarget, RunConfig
from diffusion_core.model_folder import save_model_folder
from diffusion_core.normalization import Normalization
from diffusion_registry.image_layout import publish
from diffusion_registry.model_card import write_model_card
from diffusion_trainer.checkpoint.verification import VerifiedCheckpoint
from diffusion_trainer.training_state import AVERAGE


def publish_checkpoint(
    checkpoint: VerifiedCheckpoint, config: RunConfig, normalization: Normalization, models: Path, scratch: Path
) -> PublishedVersion:
    """Write the model folder and publish it to `models/<claim>/<name>` of `config.publish`. Raises OSError."""
    target = config.publish
    assert target is not None
    with tempfile.TemporaryDirectory(dir=scratch, prefix="model-") as scratch_folder:
        folder = Path(scratch_folder) / "model"
        folder.mkdir()
        weights = load_file(checkpoint.folder / AVERAGE)
        save_model_folder(folder, weights, config.model, config.diffusion, normalization)
        version = version_config(checkpoint.manifest, config, target)
        write_model_card(folder, version)
        digest = publish(folder, models / target.claim / target.name, version, f"step-{checkpoint.manifest.step}")
    reference = ModelReference(claim=target.claim, name=target.name, digest=digest)
    return PublishedVersion(reference=str(reference), digest=digest, step=checkpoint.manifest.step)


def version_config(manifest: CheckpointManifest, config: RunConfig, target: PublishTarget) -> ModelVersionConfig:
    """What stands beside the weights: the specs, and where they come from."""
    lineage = Lineage(
        dataset=DatasetLineage(
            uri=config.dataset.uri, digest=manifest.data.dataset_digest, samples=manifest.data.dataset_size
        ),
        run=RunLineage(
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            config_digest=run_digest(config),
            training=config.training,
            code_version=manifest.code.version,
        ),
        checkpoint=CheckpointLineage(step=manifest.step, digest=manifest.reference().digest),
        samples_seen=manifest.samples_seen,
        metrics=manifest.metrics,
    )
    return ModelVersionConfig(
        created=manifest.created,
        model=config.model,
        diffusion=config.diffusion,
        lineage=lineage,
        license=target.license,
        intended_use=target.intended_use,
    )
