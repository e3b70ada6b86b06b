"""The headless Service that gives each worker a stable name."""

from diffusion_contract.names import RENDEZVOUS_PORT, TRAINING_LABEL
from diffusion_operator.api.training_spec import TrainingCustomResource
from diffusion_operator.children.metadata import Manifest, child_metadata, label_value
from diffusion_operator.children.training_names import owner_of, training_labels, workers_name


def headless_service(training: TrainingCustomResource) -> Manifest:
    """Names resolve before a worker is ready: workers meet in order to become ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(owner_of(training), workers_name(training), training_labels(training)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {TRAINING_LABEL: label_value(training.name)},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"}],
        },
    }
