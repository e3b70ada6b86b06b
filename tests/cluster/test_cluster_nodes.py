"""Nodes that come, are taken away, die and come back; needs a cluster whose nodes may be killed."""

from typing import Any

import psutil
import pytest

from cluster_fixtures import Kubernetes, apply, ended_afterwards, get, wait_for
from cluster_objects import python_pod, wait_ready
from diffusion_local.cluster import Cluster
from diffusion_local.errors import LocalClusterError

CAPACITY_TYPE = "karpenter.sh/capacity-type"
SLEEP = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(75)); signal.pause()"


def start_pod(cluster: Kubernetes, namespace: str, node: str) -> None:
    place = {"kubernetes.io/hostname": node}
    apply(cluster, python_pod(namespace, "pod", SLEEP, nodeSelector=place, terminationGracePeriodSeconds=20))
    wait_ready(cluster, namespace, "pod")


def for_gpus(namespace: str, name: str, number: int) -> dict[str, Any]:
    return python_pod(
        namespace,
        name,
        "import signal; signal.pause()",
        container={"resources": {"limits": {"nvidia.com/gpu": number}}},
    )


def node_ready(cluster: Kubernetes, name: str) -> str:
    conditions = get(cluster, "node", name)["status"]["conditions"]
    return str(next(part["status"] for part in conditions if part["type"] == "Ready"))


def exists(cluster: Kubernetes, kind: str, name: str) -> bool:
    return cluster.kubectl("get", kind, name).returncode == 0


def test_a_new_node_says_what_kind_it_is_and_takes_pods(embedded: Cluster, spot: str, cluster_namespace: str) -> None:
    labels = get(embedded, "node", spot)["metadata"]["labels"]
    assert labels[CAPACITY_TYPE] == "spot"
    assert labels["kubernetes.io/hostname"] == spot
    start_pod(embedded, cluster_namespace, spot)


def test_pretend_gpus_are_given_out_until_none_is_left(embedded: Cluster, cluster_namespace: str) -> None:
    def waits_for_a_gpu(name: str) -> bool:
        conditions = get(embedded, "pod", name, "-n", cluster_namespace)["status"].get("conditions") or []
        return any("Insufficient nvidia.com/gpu" in part.get("message", "") for part in conditions)

    with ended_afterwards(embedded, embedded.add_node(spot=True, gpus=2)) as node:
        apply(embedded, for_gpus(cluster_namespace, "both", 2))
        wait_ready(embedded, cluster_namespace, "both")
        assert get(embedded, "pod", "both", "-n", cluster_namespace)["spec"]["nodeName"] == node
        apply(embedded, for_gpus(cluster_namespace, "third", 1))
        wait_for(lambda: waits_for_a_gpu("third"), 60, "it has to wait")
        embedded.kubectl("delete", "pod", "both", "-n", cluster_namespace, "--wait=false")
        wait_ready(embedded, cluster_namespace, "third")


def test_a_killed_node_stays_as_an_object_turns_unknown_and_recovers(embedded: Cluster, spot: str) -> None:
    embedded.kill_node(spot)
    assert exists(embedded, "node", spot)
    wait_for(lambda: node_ready(embedded, spot) == "Unknown", 40, "Ready=Unknown")
    embedded.recover_node(spot)
    wait_for(lambda: node_ready(embedded, spot) == "True", 20, "Ready=True")


def agent(cluster: Cluster, node: str) -> psutil.Process | None:
    """The agent of a node, when it runs."""
    config = str(cluster.folder.node(node) / "config.json")
    family = psutil.process_iter(["cmdline", "name"])
    named = [part for part in family if config in (part.info["cmdline"] or [])]
    shells = {part.pid for part in named if part.info["name"] == "unshare"}
    return next((part for part in named if part.pid not in shells and part.ppid() in shells), None)


def test_a_node_that_was_frozen_is_ready_again_and_so_are_its_pods(
    embedded: Cluster, spot: str, cluster_namespace: str
) -> None:
    def pod_ready() -> str:
        conditions = get(embedded, "pod", "pod", "-n", cluster_namespace)["status"]["conditions"]
        return str(next(part["status"] for part in conditions if part["type"] == "Ready"))

    start_pod(embedded, cluster_namespace, spot)
    process = agent(embedded, spot)
    assert process is not None
    process.suspend()
    try:
        wait_for(lambda: node_ready(embedded, spot) == "Unknown", 40, "Ready=Unknown")
        wait_for(lambda: pod_ready() == "False", 20, "the controller manager calls its pod unready")
    finally:
        process.resume()
    wait_for(lambda: node_ready(embedded, spot) == "True", 20, "the node is ready again")
    wait_for(lambda: pod_ready() == "True", 20, "the pod is ready again")


def test_a_node_whose_agent_crashes_boots_again(embedded: Cluster, spot: str) -> None:
    first = wait_for(lambda: agent(embedded, spot), 10, "the agent")
    assert first is not None
    first.kill()
    wait_for(lambda: agent(embedded, spot) not in (None, first), 20, "another agent")
    wait_for(lambda: node_ready(embedded, spot) == "True", 30, "Ready=True")


def test_orders_for_nodes_that_are_not_there_are_refused_with_the_reason(embedded: Cluster) -> None:
    with pytest.raises(LocalClusterError, match="there is no node nowhere: node-1, spot-1"):
        embedded.kill_node("nowhere")
    with pytest.raises(LocalClusterError, match="node node-1 is running: there is nothing to recover"):
        embedded.recover_node("node-1")
    with pytest.raises(LocalClusterError, match="there is a node node-1 already"):
        embedded.add_node("node-1")
    with pytest.raises(LocalClusterError, match="cannot name a node"):
        embedded.add_node("Not_A_Name")
