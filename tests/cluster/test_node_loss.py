"""What happens to pods when their node goes, comes back, or cannot reach the API server. Embedded cluster only."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster_fixtures import fresh_namespace, get, wait_for
from diffusion_contract.names import NOTICE_CONDITIONS, NOTICE_TAINTS, TERMINATES_AT_ANNOTATION
from diffusion_local.cluster import Cluster
from node_pods import Pods, conditions, pod, python, secret, shell, terminated
from object_history import ObjectHistory, object_history

OBEDIENT = (
    "import signal,sys,time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nprint('up')\ntime.sleep(300)"
)
STUBBORN = (
    "import signal,time\nsignal.signal(signal.SIGTERM, lambda *_: print('no'))\nprint('up')\nwhile True: time.sleep(1)"
)


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


def test_a_node_is_what_a_scheduler_expects(embedded: Cluster, spot: str) -> None:
    found = nodes(embedded)[spot]
    status = found["status"]
    assert found["metadata"]["labels"]["karpenter.sh/capacity-type"] == "spot"
    assert found["metadata"]["labels"]["kubernetes.io/hostname"] == spot
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
    lease = get(embedded, "lease", spot, "-n", "kube-node-lease")["spec"]
    assert lease["holderIdentity"] == spot
    wait_for(
        lambda: get(embedded, "lease", spot, "-n", "kube-node-lease")["spec"]["renewTime"] != lease["renewTime"],
        30,
        "the lease is renewed",
    )


def test_a_node_may_not_read_the_secrets_of_others(embedded: Cluster, spot: str, pods: Pods) -> None:
    pods.apply(secret("keys", k="hidden"), on(spot, pod("reads", shell("sleep 300"))))
    config = json.loads((embedded.folder.node(spot) / "config.json").read_text())
    identity = ("--client-certificate", config["cert_file"], "--client-key", config["key_file"])
    look = ("-n", pods.namespace, "get", "secret", "keys", *identity)
    refused = embedded.kubectl(*look)
    assert refused.returncode != 0
    assert "no relationship found between node" in refused.stderr
    volume = {"name": "keys", "secret": {"secretName": "keys"}}
    pods.apply(on(spot, pod("uses", shell("sleep 300"), volumes=[volume])))
    wait_for(lambda: embedded.kubectl(*look).returncode == 0, 30, "the node of a pod that uses it may read it")


def first_version(seen: ObjectHistory, test: Callable[[dict[str, Any]], bool]) -> int:
    """The first state that passes the test, as a number of the cluster's own order of all changes."""
    return min(int(state["metadata"]["resourceVersion"]) for state in seen.states() if test(state))


def is_announced(found: dict[str, Any]) -> bool:
    tainted = any(taint["key"] in NOTICE_TAINTS for taint in found["spec"].get("taints") or [])
    return tainted and any(conditions(found).get(kind) == "True" for kind in NOTICE_CONDITIONS)


def has_ended(name: str, exit_code: int) -> Callable[[dict[str, Any]], bool]:
    def test(found: dict[str, Any]) -> bool:
        statuses = found["status"].get("containerStatuses") or [{}]
        ended = (statuses[0].get("state") or {}).get("terminated") or {}
        return found["metadata"]["name"] == name and ended.get("exitCode") == exit_code

    return test


def test_notice_comes_first_then_grace_then_the_node_is_gone(
    embedded: Cluster, spot: str, pods: Pods, tmp_path: Path
) -> None:
    pods.apply(held(on(spot, pod("obeys", python(OBEDIENT), terminationGracePeriodSeconds=60))))
    pods.apply(held(on(spot, pod("stays", python(STUBBORN), terminationGracePeriodSeconds=60))))
    pods.wait_log("obeys", "up")
    pods.wait_log("stays", "up")
    node_file, pods_file = tmp_path / "node.json", tmp_path / "pods.json"
    with (
        object_history(embedded, node_file, "node", spot) as node,
        object_history(embedded, pods_file, "pods", "-n", pods.namespace) as of_pods,
    ):
        embedded.preempt_node(spot, 12)
        node.wait_deleted()
        for name, exit_code in {"obeys": 75, "stays": 137}.items():
            found = pods.wait_phase(name, "Failed")
            assert has_ended(name, exit_code)(found)
            disrupted = next(entry for entry in found["status"]["conditions"] if entry["type"] == "DisruptionTarget")
            assert (disrupted["status"], disrupted["reason"]) == ("True", "TerminationByKubelet")
        story = [
            first_version(node, lambda state: is_announced(state) and conditions(state)["Ready"] == "True"),
            first_version(of_pods, has_ended("obeys", 75)),
            first_version(of_pods, has_ended("stays", 137)),
            first_version(node, lambda state: conditions(state)["Ready"] == "False"),
            int(node.states()[-1]["metadata"]["resourceVersion"]),
        ]
    assert story == sorted(story)
    assert TERMINATES_AT_ANNOTATION in node.states()[-1]["metadata"]["annotations"]
    wait_for(lambda: not embedded.order("status")["nodes"][spot], 60, "the end of the node's processes")
    release(pods, "obeys", "stays")


def test_without_notice_all_dies_at_once(embedded: Cluster, spot: str, pods: Pods) -> None:
    pods.apply(held(on(spot, pod("runs", python(f"{STUBBORN}  # {pods.namespace}")))))
    pods.wait_log("runs", "up")
    family = [
        part for part in psutil.process_iter(["cmdline"]) if pods.namespace in " ".join(part.info["cmdline"] or [])
    ]
    assert family
    embedded.preempt_node(spot, 0)
    assert not any(part.is_running() for part in family)
    assert embedded.order("status")["nodes"][spot] is False
    wait_for(lambda: spot not in nodes(embedded), 30, "the end of the Node")
    assert "running" in pods.main("runs")["state"]  # nobody was left to say otherwise
    release(pods, "runs")


def test_pods_of_a_killed_node_are_failed_when_it_recovers(embedded: Cluster, spot: str, pods: Pods) -> None:
    pods.apply(on(spot, pod("runs", shell("sleep 300"))))
    pods.apply(on(spot, pod("ended", shell("exit 3"))))
    pods.wait_phase("runs", "Running")
    pods.wait_phase("ended", "Failed")
    embedded.kill_node(spot)
    assert spot in nodes(embedded)
    embedded.recover_node(spot)
    found = pods.wait_phase("runs", "Failed", seconds=30)
    end = terminated(found["status"]["containerStatuses"][0])
    assert (end["exitCode"], end["reason"]) == (137, "ContainerStatusUnknown")
    assert terminated(pods.main("ended"))["exitCode"] == 3
    pods.delete("runs")
    pods.apply(on(spot, pod("fresh", shell("true"))))
    pods.wait_phase("fresh", "Succeeded", seconds=30)


def test_pods_of_a_killed_node_that_are_always_restarted_go_on_when_it_recovers(
    embedded: Cluster, spot: str, pods: Pods
) -> None:
    share = [{"name": "share", "mountPath": "/share"}]
    made = pod(
        "lives",
        shell("cat /share/made; sleep 300", volumeMounts=share),
        initContainers=[shell("echo made > /share/made", "makes", volumeMounts=share)],
        volumes=[{"name": "share", "emptyDir": {}}],
        restartPolicy="Always",
    )
    pods.apply(on(spot, made), on(spot, pod("ended", shell("echo x; exit 3"))))
    pods.wait_log("lives", "made")
    pods.wait_phase("ended", "Failed")
    embedded.kill_node(spot)
    embedded.recover_node(spot)
    wait_for(lambda: pods.main("lives").get("restartCount") == 1, 30, "it is started again")
    assert pods.main("lives")["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert pods.wait_log("lives", "made") == "made\n"
    found = pods.get("lives")["status"]
    assert found["podIPs"] == [{"ip": found["podIP"]}]
    assert terminated(pods.main("ended"))["exitCode"] == 3
    gone = embedded.kubectl("-n", pods.namespace, "logs", "ended")
    assert gone.returncode != 0
    assert "is gone" in gone.stderr


def test_pods_live_through_an_outage_of_the_api_server(embedded: Cluster, spot: str, pods: Pods) -> None:
    script = "until test -e /share/end; do sleep 0.2; done; echo ended; exit 4"
    waits = shell(script, volumeMounts=[{"name": "share", "mountPath": "/share"}])
    pods.apply(on(spot, pod("lasts", waits, volumes=[{"name": "share", "emptyDir": {}}])))
    pods.apply(on(spot, pod("stays", shell("echo up; sleep 300"))))
    pods.wait_phase("lasts", "Running")
    pods.wait_phase("stays", "Running")
    share = embedded.folder.node(spot) / "state/pods" / pods.get("lasts")["metadata"]["uid"] / "volumes/share"
    log = share.parents[1] / "logs/main/0.log"
    embedded.stop_apiserver()
    try:
        (share / "end").touch()
        wait_for(lambda: "ended" in log.read_text(), 30, "the container has ended during the outage")
    finally:
        embedded.start_apiserver()
    found = pods.wait_phase("lasts", "Failed", seconds=60)
    assert terminated(found["status"]["containerStatuses"][0])["exitCode"] == 4
    assert pods.main("stays")["restartCount"] == 0
    assert pods.get("stays")["status"]["phase"] == "Running"
    pods.delete("stays")


def test_a_pod_that_is_forced_out_of_the_api_is_killed(embedded: Cluster, spot: str, pods: Pods) -> None:
    pods.apply(on(spot, pod("forced", python(STUBBORN), terminationGracePeriodSeconds=300)))
    pods.wait_log("forced", "up")
    pods.run("delete", "pod", "forced", "--force", "--grace-period=0")
    state = embedded.folder.node(spot) / "state" / "pods"
    wait_for(lambda: not any(state.iterdir()), 30, "nothing of the pod is left on the node")
