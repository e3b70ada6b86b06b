"""The Node and its Lease, as data."""

import platform

from diffusion_local.architecture import architecture
from diffusion_local.node.configuration import Manifest, NodeConfiguration
from diffusion_local.node.moments import rfc3339, rfc3339_micro

LEASE_SECONDS = 40
PRESSURES = {
    "MemoryPressure": ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
}


def node_manifest(configuration: NodeConfiguration) -> Manifest:
    """The Node as it is created."""
    labels = {
        "kubernetes.io/hostname": configuration.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        **configuration.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": configuration.name, "labels": labels},
        "spec": {"podCIDR": configuration.pod_cidr, "podCIDRs": [configuration.pod_cidr]},
    }


def node_condition(kind: str, status: str, reason: str, message: str, since: float, now: float) -> Manifest:
    """One condition of the node, as of `now`, unchanged since `since`."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": rfc3339(since),
    }


def ready_condition(ready: bool, since: float, now: float) -> Manifest:
    """The condition Ready."""
    if ready:
        return node_condition("Ready", "True", "KubeletReady", "node agent is posting ready status", since, now)
    return node_condition("Ready", "False", "KubeletNotReady", "node is shutting down", since, now)


def node_status(
    configuration: NodeConfiguration, boot_id: str, since: float, now: float, ready: bool = True
) -> Manifest:
    """The whole status of a node that is well, or that shuts down; `since` is when this agent started."""
    pressures = [
        node_condition(kind, "False", reason, message, since, now) for kind, (reason, message) in PRESSURES.items()
    ]
    return {
        "capacity": configuration.capacity,
        "allocatable": configuration.capacity,
        "addresses": [
            {"type": "InternalIP", "address": configuration.address},
            {"type": "Hostname", "address": configuration.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": configuration.kubelet_port}},
        "nodeInfo": {
            "machineID": configuration.name,
            "systemUUID": configuration.name,
            "bootID": boot_id,
            "kernelVersion": platform.release(),
            "osImage": "processes of this machine",
            "containerRuntimeVersion": "process://1",
            "kubeletVersion": configuration.kubelet_version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": architecture(),
        },
        "conditions": [*pressures, ready_condition(ready, since if ready else now, now)],
    }


def lease_manifest(configuration: NodeConfiguration, node_uid: str, now: float) -> Manifest:
    """The node's Lease, owned by the Node so that it goes with it."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": configuration.name, "uid": node_uid}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": configuration.name, "namespace": "kube-node-lease", "ownerReferences": [owner]},
        "spec": {
            "holderIdentity": configuration.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": rfc3339_micro(now),
        },
    }
