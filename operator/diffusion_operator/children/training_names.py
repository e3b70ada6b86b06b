"""Names and labels of the children of one DiffusionTraining."""

from diffusion_contract.names import ATTEMPT_LABEL, POOL_LABEL, TRAINER_CONTAINER, TRAINING_LABEL
from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.metadata import Owner, child_name, common_labels, label_value

KIND = "DiffusionTraining"
COMPONENT = TRAINER_CONTAINER

JOB_NAME_LIMIT = 52
"""An Indexed Job's pods are called `<job>-<index>-<5 characters>` and must stay within 63."""


def owner_of(training: TrainingCustomResource) -> Owner:
    """The custom resource as its children name it."""
    return Owner(kind=KIND, name=training.name, namespace=training.namespace, uid=training.uid)


def training_labels(training: TrainingCustomResource) -> dict[str, str]:
    """Labels of every child; those of Jobs and pods have pool and attempt besides."""
    return common_labels(owner_of(training), COMPONENT) | {TRAINING_LABEL: label_value(training.name)}


def worker_labels(training: TrainingCustomResource, pool: str, attempt: int) -> dict[str, str]:
    """Labels of a Job of `pool` in `attempt`, and of its pods."""
    return training_labels(training) | {POOL_LABEL: pool, ATTEMPT_LABEL: str(attempt)}


def job_name(training: TrainingCustomResource, pool: str, attempt: int) -> str:
    """One Job for each pool and attempt."""
    return child_name(owner_of(training), pool, str(attempt), limit=JOB_NAME_LIMIT)


def workers_name(training: TrainingCustomResource) -> str:
    """The headless Service, and the PodDisruptionBudget, of all workers."""
    return child_name(owner_of(training), "workers")


def run_config_name(training: TrainingCustomResource) -> str:
    """The ConfigMap that holds `run.json` and the authority of the agent API."""
    return child_name(owner_of(training), "run")


def checkpoint_claim(training: TrainingCustomResource) -> str:
    """The claim that checkpoints lie on: the user's own, or `<name>-checkpoints`."""
    return training.spec.checkpoint.storage.existing_claim or f"{training.name}-checkpoints"


def model_claim(training: TrainingCustomResource) -> str | None:
    """The claim that the model version goes to: the user's own, or `<name>-models`; None without `publish`."""
    publish = training.spec.publish
    return None if publish is None else publish.existing_claim or f"{training.name}-models"
