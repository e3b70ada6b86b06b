"""PersistentVolumeClaims that we make: for checkpoints and for the model version.

Both belong to the custom resource and go with it. Whoever wants a volume to outlive the run makes the claim and names
it in `existingClaim`.
"""

from collections.abc import Mapping

from diffusion_contract.quantity import quantity_value
from diffusion_operator.api.training_spec import ClaimSpec, TrainingCustomResource
from diffusion_operator.children.metadata import Manifest, child_metadata
from diffusion_operator.children.training_names import checkpoint_claim, model_claim, owner_of, training_labels


def claims(training: TrainingCustomResource, sizes: Mapping[str, str]) -> tuple[Manifest, ...]:
    """The claims that `training` asks us to make, none to two.

    `sizes`: what the claims that exist ask for, by name. A volume never shrinks, so one that somebody enlarged by hand
    because it was full keeps its size.
    """
    wanted = [(checkpoint_claim(training), training.spec.checkpoint.storage.claim)]
    publish, name = training.spec.publish, model_claim(training)
    if publish is not None and name is not None:
        wanted.append((name, publish.claim))
    return tuple(_claim(training, name, spec, sizes.get(name, "")) for name, spec in wanted if spec is not None)


def _claim(training: TrainingCustomResource, name: str, spec: ClaimSpec, live_size: str) -> Manifest:
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": child_metadata(owner_of(training), name, training_labels(training)),
        "spec": {
            "accessModes": list(spec.access_modes),
            "resources": {"requests": {"storage": _larger(spec.size, live_size)}},
        },
    }
    if spec.storage_class_name is not None:
        manifest["spec"]["storageClassName"] = spec.storage_class_name
    return manifest


def _larger(wanted: str, live: str) -> str:
    ours, theirs = quantity_value(wanted), quantity_value(live)
    return live if ours is not None and theirs is not None and theirs >= ours else wanted
