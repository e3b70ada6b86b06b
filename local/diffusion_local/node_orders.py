"""What a node is told when it starts, as pure functions: its name, addresses, labels and capacity."""

from collections.abc import Collection
from dataclasses import dataclass

from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS, KUBERNETES_VERSION
from diffusion_local.certificates import KeyPair
from diffusion_local.components import API_URL
from diffusion_local.errors import LocalClusterError
from diffusion_local.network import KUBELET_PORT, LARGEST_NODE_INDEX, node_address, node_pod_range
from diffusion_local.node.configuration import NodeConfiguration
from diffusion_local.state import NAME_PATTERN, StateFolder

CAPACITY_LABEL = "karpenter.sh/capacity-type"
SPOT, ON_DEMAND = "spot", "on-demand"
PREFIX = {SPOT: "spot", ON_DEMAND: "node"}
GPU = "nvidia.com/gpu"
LEAST_CORES = 8
"""Nodes are generous with cores: a promise to the scheduler, so that small machines can run the examples."""
PODS = 100
STORAGE = "20Gi"
"""Of each node, for the scheduler; nobody measures it."""
COMPONENTS = (*CLUSTER_PROGRAMS, "supervisor")
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

    Raises LocalClusterError for a name that is taken, a component's, or no DNS label, and when all 254 numbers are in
    use.
    """
    names = {node.name for node in taken}
    if name is None:
        numbers = range(1, LARGEST_NODE_INDEX + 2)
        name = next(free for number in numbers if (free := f"{PREFIX[capacity_type]}-{number}") not in names)
    if name in names:
        raise LocalClusterError(f"there is a node {name} already: use `node recover {name}` when it is down")
    if not NAME_PATTERN.fullmatch(name):
        raise LocalClusterError(f"{name!r} cannot name a node: use small letters, digits and dashes, at most 40")
    if name in COMPONENTS:
        raise LocalClusterError(f"{name!r} cannot name a node: the component of that name has the log and the status")
    indices = {node.index for node in taken}
    index = next((free for free in range(1, LARGEST_NODE_INDEX + 1) if free not in indices), None)
    if index is None:
        raise LocalClusterError(f"there are {LARGEST_NODE_INDEX} nodes already: no more fit into the address range")
    return NodeIdentity(name, index, capacity_type, gpus)


def node_capacity(gpus: int, cores: int, memory_bytes: int) -> dict[str, str]:
    """Return the capacity of a node in Kubernetes quantities."""
    capacity = {
        "cpu": str(max(cores, LEAST_CORES)),
        "memory": f"{memory_bytes // 1024}Ki",
        "pods": str(PODS),
        "ephemeral-storage": STORAGE,
    }
    return capacity | {GPU: str(gpus)} if gpus else capacity


def node_config(
    node: NodeIdentity,
    folder: StateFolder,
    client: KeyPair,
    serving: KeyPair,
    cloud: KeyPair,
    capacity: dict[str, str],
    grace_seconds: int,
) -> NodeConfiguration:
    """Return what the node agent is told; `cloud` is the identity that taints and deletes Node objects."""
    gpu_labels = {"nvidia.com/gpu.present": "true"} if node.gpus else {}
    return NodeConfiguration(
        name=node.name,
        labels={CAPACITY_LABEL: node.capacity_type, **gpu_labels},
        address=node_address(node.index),
        pod_cidr=node_pod_range(node.index),
        server=API_URL,
        ca_file=folder.certificates / "ca.crt",
        cert_file=client.certificate,
        key_file=client.key,
        serving_cert_file=serving.certificate,
        serving_key_file=serving.key,
        cloud_cert_file=cloud.certificate,
        cloud_key_file=cloud.key,
        state_directory=folder.node(node.name) / "state",
        images_file=folder.images,
        hosts_file=folder.hosts,
        control_socket=folder.node_socket(node.name),
        capacity=capacity,
        kubelet_port=KUBELET_PORT,
        kubelet_version=KUBERNETES_VERSION,
        lease_renew_seconds=grace_seconds / GRACE_SHARE,
    )
