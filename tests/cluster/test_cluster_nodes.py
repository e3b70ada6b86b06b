"""Nodes that come, are taken away, die and come back; needs a cluster whose nodes may be killed."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from cluster_fixtures import Kubernetes, apply, get, wait_for
from cluster_objects import python_pod, wait_ready
from diffusion_contract.names import NOTICE_CONDITIONS, NOTICE_TAINTS
from diffusion_local.cluster import Cluster
from diffusion_local.errors import LocalClusterError

CAPACITY_TYPE = "karpenter.sh/capacity-type"
SLEEP = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(75)); signal.pause()"


@pytest.fixture
def spot(embedded: Cluster) -> Iterator[str]:
    """A spot node of the test's own."""
    name = embedded.add_node(spot=True)
    yield name
    embedded.kubectl("delete", "node", name, "--ignore-not-found", "--wait=false")


def start_pod(cluster: Kubernetes, namespace: str, node: str) -> None:
    place = {"kubernetes.io/hostname": node}
    apply(cluster, python_pod(namespace, "pod", SLEEP, nodeSelector=place, terminationGracePeriodSeconds=20))
    wait_ready(cluster, namespace, "pod")


def node_ready(cluster: Kubernetes, name: str) -> str:
    conditions = get(cluster, "node", name)["status"]["conditions"]
    return str(next(part["status"] for part in conditions if part["type"] == "Ready"))


def exists(cluster: Kubernetes, kind: str, name: str) -> bool:
    return cluster.kubectl("get", kind, name).returncode == 0


def is_announced(node: dict[str, Any]) -> bool:
    tainted = any(taint["key"] in NOTICE_TAINTS for taint in node["spec"].get("taints") or [])
    conditions = node["status"]["conditions"]
    return tainted and any(part["type"] in NOTICE_CONDITIONS and part["status"] == "True" for part in conditions)


def test_a_new_node_says_what_kind_it_is_and_takes_pods(embedded: Cluster, spot: str, cluster_namespace: str) -> None:
    labels = get(embedded, "node", spot)["metadata"]["labels"]
    assert labels[CAPACITY_TYPE] == "spot"
    assert labels["kubernetes.io/hostname"] == spot
    start_pod(embedded, cluster_namespace, spot)


def test_a_preempted_node_is_announced_first_and_gone_at_last(
    embedded: Cluster, spot: str, cluster_namespace: str
) -> None:
    start_pod(embedded, cluster_namespace, spot)
    embedded.preempt_node(spot, 5)
    wait_for(lambda: is_announced(get(embedded, "node", spot)), 5, "taint and condition")
    wait_for(lambda: not exists(embedded, "node", spot), 30, "the end of the Node object")
    wait_for(lambda: not embedded.order("status")["nodes"][spot], 10, "the end of the node's processes")


def test_without_notice_everything_on_the_node_is_dead_at_once(
    embedded: Cluster, spot: str, cluster_namespace: str
) -> None:
    start_pod(embedded, cluster_namespace, spot)
    embedded.preempt_node(spot, 0)
    assert embedded.order("status")["nodes"][spot] is False
    assert not exists(embedded, "node", spot)


def test_a_killed_node_stays_as_an_object_turns_unknown_and_recovers(embedded: Cluster, spot: str) -> None:
    embedded.kill_node(spot)
    assert exists(embedded, "node", spot)
    wait_for(lambda: node_ready(embedded, spot) == "Unknown", 40, "Ready=Unknown")
    embedded.recover_node(spot)
    assert node_ready(embedded, spot) == "True"


def agent(cluster: Cluster, node: str) -> psutil.Process | None:
    """The agent of a node, when it runs."""
    config = str(cluster.folder.node(node) / "config.json")
    family = psutil.process_iter(["cmdline", "name"])
    named = (part for part in family if config in (part.info["cmdline"] or []))
    return next((part for part in named if part.info["name"] != "unshare"), None)


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


def test_an_unknown_image_is_a_pull_error_as_anywhere(cluster: Kubernetes, cluster_namespace: str) -> None:
    apply(cluster, python_pod(cluster_namespace, "pod", "", image="nowhere.invalid/no/such:image"))

    def reason() -> str:
        statuses = get(cluster, "pod", "pod", "-n", cluster_namespace)["status"].get("containerStatuses") or [{}]
        return str(statuses[0].get("state", {}).get("waiting", {}).get("reason"))

    wait_for(lambda: reason() in ("ErrImagePull", "ImagePullBackOff"), 60, "ErrImagePull")
    wait_for(lambda: reason() == "ImagePullBackOff", 60, "ImagePullBackOff")
