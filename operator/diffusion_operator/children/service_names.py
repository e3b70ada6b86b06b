"""Names and labels of the children of one DiffusionService."""

from diffusion_contract.names import ENGINE_ROLE, REVISION_LABEL, ROLE_LABEL, ROUTER_ROLE, SERVICE_LABEL
from diffusion_operator.children.metadata import Owner, child_name, common_labels, label_value

KIND = "DiffusionService"
ENGINE = ENGINE_ROLE
ROUTER = ROUTER_ROLE


def service_labels(owner: Owner, role: str) -> dict[str, str]:
    """Labels of every child; `role` is `engine` or `router`."""
    return common_labels(owner, role) | {SERVICE_LABEL: label_value(owner.name), ROLE_LABEL: role}


def revision_labels(owner: Owner, revision: str) -> dict[str, str]:
    """Labels of what belongs to one revision, its pods among them."""
    return service_labels(owner, ENGINE) | {REVISION_LABEL: revision}


def pod_selector(labels: dict[str, str]) -> dict[str, str]:
    """Those of `labels` by which pods are found: they must never change for a Deployment."""
    return {key: labels[key] for key in (SERVICE_LABEL, ROLE_LABEL, REVISION_LABEL) if key in labels}


def engine_selector(owner: Owner) -> str:
    """The label selector of all engine pods, as the scale subresource shows it."""
    return f"{SERVICE_LABEL}={label_value(owner.name)},{ROLE_LABEL}={ENGINE}"


def engine_name(owner: Owner, revision: str) -> str:
    """The Deployment, the headless Service, the ConfigMap and the disruption budget of a revision."""
    return child_name(owner, ENGINE, revision)


def engine_host(owner: Owner, revision: str) -> str:
    """The DNS name under which the ready engines of a revision are found."""
    return f"{engine_name(owner, revision)}.{owner.namespace}.svc"


def router_name(owner: Owner) -> str:
    """The Deployment, the Service, the ConfigMap and the disruption budget of the routers."""
    return child_name(owner, ROUTER)


def router_url(owner: Owner) -> str:
    """Where clients inside the cluster send requests."""
    return f"http://{router_name(owner)}.{owner.namespace}.svc"
