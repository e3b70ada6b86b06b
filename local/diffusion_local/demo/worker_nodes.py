"""Which nodes the story can count on, and which one carries the spot worker: pure, from `kubectl get ... -o json`."""

from collections.abc import Iterable
from typing import Any

from diffusion_contract.names import POOL_LABEL, TRAINING_LABEL
from diffusion_local.node_orders import CAPACITY_LABEL

Object = dict[str, Any]
KEEPS_PODS_AWAY = ("NoSchedule", "NoExecute")
SPOT_POOL = "spot"
"""The name of the pool in examples/quickstart.yaml."""


def usable_nodes(nodes: Iterable[Object], capacity_type: str) -> list[str]:
    """Return the names of the nodes of one kind of capacity that are ready and take pods.

    One that is leaving, was killed or is cordoned is still an object, and of no use.
    """
    return [
        node["metadata"]["name"]
        for node in nodes
        if (node["metadata"].get("labels") or {}).get(CAPACITY_LABEL) == capacity_type
        and _is_ready(node)
        and not node["spec"].get("unschedulable")
        and not any(taint["effect"] in KEEPS_PODS_AWAY for taint in node["spec"].get("taints") or [])
    ]


def spot_worker_node(pods: Iterable[Object], training: str) -> str | None:
    """Return the node on which the spot worker of `training` runs; None while it runs nowhere."""
    for pod in pods:
        meta, labels = pod["metadata"], pod["metadata"].get("labels") or {}
        runs = pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in meta
        if runs and labels.get(TRAINING_LABEL) == training and labels.get(POOL_LABEL) == SPOT_POOL:
            return str(pod["spec"]["nodeName"])
    return None


def _is_ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
