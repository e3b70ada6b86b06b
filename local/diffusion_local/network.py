"""Addresses inside a cluster's own network namespace, which routes between the pods' own."""

from collections.abc import Sequence

CONTROL_PLANE_RANGE = "10.244.0.0/24"
"""Where the control plane listens; each node adds its own address, and a route to each of its pods."""
GATEWAY = "169.254.1.1"
"""What pods send to; link-local, and the same for all."""
SERVICE_RANGE = "10.96.0.0/16"
CONTROL_PLANE_ADDRESS = "10.244.0.1"
"""The API server's advertised address; there is no default route, so it cannot choose one itself."""
API_SERVICE_ADDRESS = "10.96.0.1"
"""The ClusterIP of the Service `kubernetes`: the first address of the Service range, as Kubernetes fixes it."""
API_SERVICE_PORT = 443
API_PORT = 6443
ETCD_PORT = 2379
KUBELET_PORT = 10250
CLUSTER_DOMAIN = "cluster.local"
LARGEST_NODE_INDEX = 254

UP_COMMANDS: Sequence[Sequence[str]] = (
    ("ip", "link", "set", "lo", "up"),
    ("ip", "address", "add", f"{GATEWAY}/32", "dev", "lo"),
    ("ip", "route", "add", "local", CONTROL_PLANE_RANGE, "dev", "lo"),
    ("ip", "route", "add", "local", SERVICE_RANGE, "dev", "lo"),
    ("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
)


def node_address(index: int) -> str:
    """Return the address of node number `index` (1 to 254): the first one of its pod range."""
    return f"10.244.{index}.1"


def node_pod_range(index: int) -> str:
    """Return the pod range of node number `index` (1 to 254)."""
    return f"10.244.{index}.0/24"
