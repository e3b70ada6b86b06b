"""What happens to pods when their node goes, comes back, or cannot reach the API server. Embedded cluster only."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster_fixtures import fresh_namespace, get, wait_for
from diffusion_local.cluster import Cluster
from node_pods import Pods, conditions, pod, python, secret, shell, terminated

TAINT = "aws-node-termination-handler/spot-itn"
OBEDIENT = (
    "import signal,sys,time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nprint('up')\ntime.sleep(300)"
)
STUBBORN = (
    "import signal,time\nsignal.signal(signal.SIGTERM, lambda *_: print('no'))\nprint('up')\nwhile True: time.sleep(1)"
)


@pytest.fixture
def node(embedded: Cluster) -> Iterator[str]:
    """A node of this test's own."""
    name = embedded.add_node(spot=True)
    yield name
    if name in nodes(embedded):
        embedded.preempt_node(name, 0)


@pytest.fixture
def pods(embedded: Cluster) -> Iterator[Pods]:
    with fresh_namespace(embedded) as namespace:
        yield Pods(embedded, namespace)


def nodes(cluster: Cluster) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in get(cluster, "nodes")["items"]}


def on(node: str, made: dict[str, Any]) -> dict[str, Any]:
    """The pod, bound to a node."""
    made["spec"]["nodeName"] = node
    return made


def held(made: dict[str, Any]) -> dict[str, Any]:
    """The pod, kept in the API when it is deleted."""
    made["metadata"]["finalizers"] = ["test.diffusion.dev/hold"]
    return made


def release(pods: Pods, *names: str) -> None:
    for name in names:
        pods.patch("pod", name, {"metadata": {"finalizers": None}})


def test_a_node_is_what_a_scheduler_expects(embedded: Cluster, node: str) -> None:
    found = nodes(embedded)[node]
    status = found["status"]
    assert found["metadata"]["labels"]["karpenter.sh/capacity-type"] == "spot"
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == node
    assert found["metadata"]["labels"]["kubernetes.io/os"] == "linux"
    assert conditions(found) == {
        "Ready": "True",
        "MemoryPressure": "False",
        "DiskPressure": "False",
        "PIDPressure": "False",
    }
    assert {entry["type"] for entry in status["addresses"]} == {"InternalIP", "Hostname"}
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    assert set(status["allocatable"]) >= {"cpu", "memory", "pods"}
    lease = get(embedded, "lease", node, "-n", "kube-node-lease")["spec"]
    assert lease["holderIdentity"] == node
    wait_for(
        lambda: get(embedded, "lease", node, "-n", "kube-node-lease")["spec"]["renewTime"] != lease["renewTime"],
        30,
        "the lease is renewed",
    )


def test_exec_is_answered_with_a_clear_refusal(embedded: Cluster, node: str, pods: Pods) -> None:
    pods.apply(on(node, pod("runs", shell("sleep 300"))))
    pods.wait_phase("runs", "Running")
    done = embedded.kubectl("-n", pods.namespace, "exec", "runs", "--", "true")
    assert done.returncode != 0
    assert "not supported by this development node" in done.stderr


def test_a_node_may_not_read_the_secrets_of_others(embedded: Cluster, node: str, pods: Pods) -> None:
    pods.apply(secret("keys", k="hidden"), on(node, pod("reads", shell("sleep 300"))))
    config = json.loads((embedded.folder.node(node) / "config.json").read_text())
    identity = ("--client-certificate", config["certFile"], "--client-key", config["keyFile"])
    look = ("-n", pods.namespace, "get", "secret", "keys", *identity)
    refused = embedded.kubectl(*look)
    assert refused.returncode != 0
    assert "no relationship found between node" in refused.stderr
    volume = {"name": "keys", "secret": {"secretName": "keys"}}
    pods.apply(on(node, pod("uses", shell("sleep 300"), volumes=[volume])))
    wait_for(lambda: embedded.kubectl(*look).returncode == 0, 30, "the node of a pod that uses it may read it")


def test_notice_comes_first_then_grace_then_the_node_is_gone(embedded: Cluster, node: str, pods: Pods) -> None:
    pods.apply(held(on(node, pod("obeys", python(OBEDIENT), terminationGracePeriodSeconds=60))))
    pods.apply(held(on(node, pod("stays", python(STUBBORN), terminationGracePeriodSeconds=60))))
    pods.wait_log("obeys", "up")
    pods.wait_log("stays", "up")
    embedded.preempt_node(node, 6)
    found = nodes(embedded)[node]
    assert TAINT in {taint["key"] for taint in found["spec"]["taints"]}
    assert conditions(found)["SpotInterruption"] == "True"
    assert "diffusion.dev/terminates-at" in found["metadata"]["annotations"]
    assert conditions(found)["Ready"] == "True"
    obeyed = pods.wait_phase("obeys", "Failed", seconds=30)
    assert terminated(obeyed["status"]["containerStatuses"][0])["exitCode"] == 75
    disrupted = next(entry for entry in obeyed["status"]["conditions"] if entry["type"] == "DisruptionTarget")
    assert (disrupted["status"], disrupted["reason"]) == ("True", "TerminationByKubelet")
    killed = pods.wait_phase("stays", "Failed", seconds=30)
    assert terminated(killed["status"]["containerStatuses"][0])["exitCode"] == 137
    assert conditions(killed)["DisruptionTarget"] == "True"
    wait_for(lambda: node not in nodes(embedded), 30, "the node is gone")
    release(pods, "obeys", "stays")


def test_without_notice_all_dies_at_once(embedded: Cluster, node: str, pods: Pods) -> None:
    pods.apply(held(on(node, pod("runs", python(STUBBORN)))))
    pods.wait_log("runs", "up")
    embedded.preempt_node(node, 0)
    assert node not in nodes(embedded)
    assert pods.get("runs")["status"]["phase"] == "Running"  # nobody was left to say otherwise
    release(pods, "runs")


def test_pods_of_a_killed_node_are_failed_when_it_recovers(embedded: Cluster, node: str, pods: Pods) -> None:
    pods.apply(on(node, pod("runs", shell("sleep 300"))))
    pods.apply(on(node, pod("ended", shell("exit 3"))))
    pods.wait_phase("runs", "Running")
    pods.wait_phase("ended", "Failed")
    embedded.kill_node(node)
    assert node in nodes(embedded)
    embedded.recover_node(node)
    found = pods.wait_phase("runs", "Failed", seconds=30)
    end = terminated(found["status"]["containerStatuses"][0])
    assert (end["exitCode"], end["reason"]) == (137, "ContainerStatusUnknown")
    assert terminated(pods.main("ended"))["exitCode"] == 3
    assert pods.delete("runs") < 20
    pods.apply(on(node, pod("fresh", shell("true"))))
    pods.wait_phase("fresh", "Succeeded", seconds=30)


def test_pods_of_a_killed_node_that_are_always_restarted_go_on_when_it_recovers(
    embedded: Cluster, node: str, pods: Pods
) -> None:
    share = [{"name": "share", "mountPath": "/share"}]
    made = pod(
        "lives",
        shell("cat /share/made; sleep 300", volumeMounts=share),
        initContainers=[shell("echo made > /share/made", "makes", volumeMounts=share)],
        volumes=[{"name": "share", "emptyDir": {}}],
        restartPolicy="Always",
    )
    pods.apply(on(node, made), on(node, pod("ended", shell("echo x; exit 3"))))
    pods.wait_log("lives", "made")
    pods.wait_phase("ended", "Failed")
    embedded.kill_node(node)
    embedded.recover_node(node)
    wait_for(lambda: pods.main("lives").get("restartCount") == 1, 30, "it is started again")
    assert pods.main("lives")["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert pods.wait_log("lives", "made") == "made\n"
    found = pods.get("lives")["status"]
    assert found["podIPs"] == [{"ip": found["podIP"]}]
    assert terminated(pods.main("ended"))["exitCode"] == 3
    gone = embedded.kubectl("-n", pods.namespace, "logs", "ended")
    assert gone.returncode != 0
    assert "is gone" in gone.stderr


def test_pods_live_through_an_outage_of_the_api_server(embedded: Cluster, node: str, pods: Pods) -> None:
    pods.apply(on(node, pod("lasts", shell("for i in 1 2 3 4 5 6 7 8; do sleep 0.4; echo step $i; done; exit 4"))))
    pods.apply(on(node, pod("stays", shell("echo up; sleep 300"))))
    pods.wait_phase("lasts", "Running")
    pods.wait_phase("stays", "Running")
    log = embedded.folder.node(node) / "state/pods" / pods.get("lasts")["metadata"]["uid"] / "logs/main/0.log"
    embedded.stop_apiserver()
    wait_for(lambda: "step 8" in log.read_text(), 30, "the container has ended during the outage")
    embedded.start_apiserver()
    found = pods.wait_phase("lasts", "Failed", seconds=60)
    assert terminated(found["status"]["containerStatuses"][0])["exitCode"] == 4
    assert pods.main("stays")["restartCount"] == 0
    assert pods.get("stays")["status"]["phase"] == "Running"
    assert pods.delete("stays") < 30


def test_a_pod_that_is_forced_out_of_the_api_is_killed(embedded: Cluster, node: str, pods: Pods) -> None:
    pods.apply(on(node, pod("forced", python(STUBBORN), terminationGracePeriodSeconds=300)))
    pods.wait_log("forced", "up")
    pods.run("delete", "pod", "forced", "--force", "--grace-period=0")
    state = embedded.folder.node(node) / "state" / "pods"
    wait_for(lambda: not any(state.iterdir()), 30, "nothing of the pod is left on the node")
