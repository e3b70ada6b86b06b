"""PodDisruptionBudgets: a drain takes one engine and one router at a time, and never waits for ever."""

from diffusion_operator.children.metadata import Manifest, Owner, child_metadata
from diffusion_operator.children.service_names import (
    ROUTER,
    engine_name,
    pod_selector,
    revision_labels,
    router_name,
    service_labels,
)


def engine_disruption_budget(owner: Owner, revision: str) -> Manifest:
    """One engine of the revision at a time."""
    return _budget(owner, engine_name(owner, revision), revision_labels(owner, revision))


def router_disruption_budget(owner: Owner) -> Manifest:
    """One router at a time."""
    return _budget(owner, router_name(owner), service_labels(owner, ROUTER))


def _budget(owner: Owner, name: str, labels: dict[str, str]) -> Manifest:
    """`maxUnavailable` and not `minAvailable`: the only pod of a small service may still leave a drained node."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(owner, name, labels),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": pod_selector(labels)}},
    }
