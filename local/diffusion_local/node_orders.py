"""What a node is told when it starts, as pure functions: its name, addresses, labels and capacity."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from diffusion_local.certificates import KeyPair
from diffusion_local.components import API_URL
from diffusion_local.errors import LocalClusterError
from diffusion_local.network import KUBELET_PORT, LARGEST_NODE_INDEX, node_address, node_pod_range
from diffusion_local.state import StateFolder

CAPACITY_LABEL = "karpenter.sh/capacity-type"
SPOT, ON_DEMAND = "spot", "on-demand"
PREFIX = {SPOT: "spot", ON_DEMAND: "node"}
GPU = "nvidia.com/gpu"
LEAST_CORES = 8
"""Nodes are generous with cores: a promise to the scheduler, so that small machines can run the examples."""
PODS = 100
NAME_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
GRACE_SHARE = 4
"""A node says that it lives four times in the time after which it counts as lost."""


@dataclass(frozen=True)
class NodeIdentity:
    """A node's name, number (1 to 254, which gives its addresses), kind of capacity and pretend GPUs."""

    name: str
    index: int
    capacity_type: str
    gpus: int


def next_identity(taken: Collection[NodeIdentity], name: str | None, capacity_type: str, gpus: int) -> NodeIdentity:
    """Return a new node's identity; `name` None counts up from node-1 or spot-1.

    Raises LocalClusterError for a name that is taken or no DNS label, and when all 254 numbers are in use.
    """
    names = {node.name for node in taken}
    if name is None:
        numbers = range(1, LARGEST_NODE_INDEX + 2)
        name = next(free for number in numbers if (free := f"{PREFIX[capacity_type]}-{number}") not in names)
    if name in names:
        raise LocalClusterError(f"there is a node {name} already: use `node recover {name}` when it is down")
    if not NAME_PATTERN.fullmatch(name):
        raise LocalClusterError(f"{name!r} cannot name a node: use small letters, digits and dashes, at most 40")
    indices = {node.index for node in taken}
    index = next((free for free in range(1, LARGEST_NODE_INDEX + 1) if free not in indices), None)
    if index is None:
        raise LocalClusterError(f"there are {LARGEST_NODE_INDEX} nodes already: no more fit into the address range")
    return NodeIdentity(name, index, capacity_type, gpus)


def node_capacity(gpus: int, cores: int, memory_bytes: int) -> dict[str, str]:
    """Return the capacity of a node in Kubernetes quantities."""
    capacity = {"cpu": str(max(cores, LEAST_CORES)), "memory": f"{memory_bytes // 1024}Ki", "pods": str(PODS)}
    return capacity | {GPU: str(gpus)} if gpus else capacity


def node_config(
    node: NodeIdentity,
    folder: StateFolder,
    client: KeyPair,
    serving: KeyPair,
    cloud: KeyPair,
    capacity: dict[str, str],
    grace_seconds: int,
) -> dict[str, Any]:
    """Return the node agent's configuration file; `cloud` is the identity that taints and deletes Node objects."""
    labels = {CAPACITY_LABEL: node.capacity_type}
    if node.gpus:
        labels["nvidia.com/gpu.present"] = "true"
    return {
        "name": node.name,
        "labels": labels,
        "taints": [],
        "address": node_address(node.index),
        "podCidr": node_pod_range(node.index),
        "server": API_URL,
        "caFile": str(folder.certificates / "ca.crt"),
        "certFile": str(client.certificate),
        "keyFile": str(client.key),
        "servingCertFile": str(serving.certificate),
        "servingKeyFile": str(serving.key),
        "cloudCertFile": str(cloud.certificate),
        "cloudKeyFile": str(cloud.key),
        "stateDirectory": str(folder.node(node.name) / "state"),
        "imagesFile": str(folder.images),
        "hostsFile": str(folder.hosts),
        "capacity": capacity,
        "controlSocket": str(folder.node_socket(node.name)),
        "kubeletPort": KUBELET_PORT,
        "leaseRenewSeconds": grace_seconds / GRACE_SHARE,
    }
