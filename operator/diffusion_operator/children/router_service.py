"""The Service in front of the routers: the address of the whole DiffusionService."""

from diffusion_contract.names import ROUTER_PORT
from diffusion_operator.children.metadata import Manifest, Owner, child_metadata
from diffusion_operator.children.service_names import ROUTER, pod_selector, router_name, service_labels


def router_service(owner: Owner) -> Manifest:
    """Port 80 of a virtual IP, so that the URL needs no port."""
    labels = service_labels(owner, ROUTER)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(owner, router_name(owner), labels),
        "spec": {
            "type": "ClusterIP",
            "selector": pod_selector(labels),
            "ports": [{"name": "http", "port": 80, "targetPort": ROUTER_PORT, "protocol": "TCP"}],
        },
    }
