"""PersistentVolumeClaims that we make: for checkpoints and for the model version.

Both belong to the custom resource and go with it. Whoever wants a volume to outlive the run makes the claim and names
it in `existingClaim`.
"""

from diffusion_operator.api.training_spec import ClaimSpec, TrainingCustomResource
from diffusion_operator.children.metadata import Manifest, child_metadata
from diffusion_operator.children.training_names import checkpoint_claim, model_claim, owner_of, training_labels


def claims(training: TrainingCustomResource) -> tuple[Manifest, ...]:
    """The claims that `training` asks us to make, none to two."""
    wanted = [(checkpoint_claim(training), training.spec.checkpoint.storage.claim)]
    publish, name = training.spec.publish, model_claim(training)
    if publish is not None and name is not None:
        wanted.append((name, publish.claim))
    return tuple(_claim(training, name, spec) for name, spec in wanted if spec is not None)


def _claim(training: TrainingCustomResource, name: str, spec: ClaimSpec) -> Manifest:
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": child_metadata(owner_of(training), name, training_labels(training)),
        "spec": {
            "accessModes": list(spec.access_modes),
            "resources": {"requests": {"storage": spec.size}},
        },
    }
    if spec.storage_class_name is not None:
        manifest["spec"]["storageClassName"] = spec.storage_class_name
    return manifest
