"""The headless Service of one revision: its DNS name lists the engine pods that are ready."""

from diffusion_contract.names import ENGINE_PORT
from diffusion_operator.children.metadata import Manifest, Owner, child_metadata
from diffusion_operator.children.service_names import engine_name, pod_selector, revision_labels


def engine_service(owner: Owner, revision: str) -> Manifest:
    """Routers resolve it again each second, so replaced pods are found while the operator is away."""
    labels = revision_labels(owner, revision)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(owner, engine_name(owner, revision), labels),
        "spec": {
            "clusterIP": "None",
            "selector": pod_selector(labels),
            "ports": [{"name": "http", "port": ENGINE_PORT, "protocol": "TCP"}],
        },
    }
