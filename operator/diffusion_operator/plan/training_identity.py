"""Whether a spec still describes the run that was begun, and with what the run goes on where it does not.

The schema refuses changes of what a run learns. But it compares the free map `model.denoiser.config` by CEL's equality,
and that overlooks a key that another one replaces. A worker that starts later would build another network, refuse the
checkpoints of this one, and end the run for all.

So the digest of what the run learns is stored together with its first attempt. A spec with another digest is refused,
and the run goes on with what its pods read since it began.
"""

from dataclasses import replace

from diffusion_contract.checkpoint_manifest import identity_digest
from diffusion_operator.api.errors import SpecInvalid
from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.run_config_map import run_config
from diffusion_operator.observe.training_world import TrainingWorld

CHANGED = SpecInvalid(
    "spec.model.denoiser.config",
    "what a training learns cannot be changed once it exists: put back the keys and values that it was begun with, "
    "or create another DiffusionTraining",
)


def identity(world: TrainingWorld, training: TrainingCustomResource) -> str:
    """The digest to store; once stored it stays."""
    return world.history.identity or identity_digest(run_config(training))


def describes_another_run(world: TrainingWorld, training: TrainingCustomResource) -> bool:
    """Whether the run was begun from another model, dataset, seed or the like than the spec has now."""
    return identity(world, training) != identity_digest(run_config(training))


def as_begun(world: TrainingWorld, training: TrainingCustomResource) -> TrainingCustomResource | None:
    """`training` with what its run was begun with; None where no document proves what that was."""
    if not describes_another_run(world, training):
        return training
    run = world.run
    if run is None or identity_digest(run) != world.history.identity:
        return None
    spec, read = training.spec, run.checkpoint
    kept = {"interval": read.interval, "on_preemption": read.on_preemption, "retain": read.retain}
    learned = {"model": run.model, "diffusion": run.diffusion, "dataset": run.dataset, "training": run.training}
    return replace(
        training, spec=spec.model_copy(update={**learned, "checkpoint": spec.checkpoint.model_copy(update=kept)})
    )


def why_unusable(world: TrainingWorld) -> str:
    """The path and the reason for which a spec cannot be used: it cannot be read, or describes an unknown other run."""
    return str(world.refused or CHANGED)
