"""The PodDisruptionBudget that keeps voluntary evictions from taking a run below `workers.min`."""

from diffusion_contract.names import ATTEMPT_LABEL, TRAINING_LABEL
from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.metadata import Manifest, child_metadata, label_value
from diffusion_operator.children.training_names import owner_of, training_labels, workers_name


def training_disruption_budget(training: TrainingCustomResource, attempt: int) -> Manifest:
    """A drain waits while it would leave fewer than `workers.min`; one of a single worker must still be possible.

    Where `workers.min` equals `workers.max` one worker may always be taken: a run saves and goes on, while a node that
    can never be drained helps nobody.
    """
    workers = training.spec.workers
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(owner_of(training), workers_name(training), training_labels(training)),
        "spec": {
            "minAvailable": min(workers.min, workers.max - 1),
            "selector": {"matchLabels": {TRAINING_LABEL: label_value(training.name), ATTEMPT_LABEL: str(attempt)}},
        },
    }
