"""`diffusion-local` on a running cluster, as a user types it."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from cluster_fixtures import apply, ended_afterwards, get, wait_for
from cluster_objects import output_of, python_pod, wait_ready, web_pod
from diffusion_local.cluster import Cluster
from diffusion_local.state import HOME_VARIABLE

Local = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def local(embedded: Cluster, monkeypatch: pytest.MonkeyPatch) -> Local:
    """Run the command on the shared cluster."""
    monkeypatch.setenv(HOME_VARIABLE, str(embedded.folder.root.parent))
    monkeypatch.setenv("DIFFUSION_LOCAL_NAME", embedded.folder.root.name)

    def run(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "diffusion_local", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == expect, done.stderr
        return done

    return run


@pytest.fixture
def extra_node(local: Local, embedded: Cluster) -> Iterator[str]:
    """A node of the test's own, added by the command."""
    assert local("node", "add", "extra", "--gpus", "2").stdout == "node extra is ready\n"
    with ended_afterwards(embedded, "extra") as name:
        yield name


def test_status_shows_every_part_and_the_addresses_to_whoever_reads_it(local: Local, embedded: Cluster) -> None:
    shown = local("status").stdout.splitlines()
    for part in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "node-1", "spot-1"):
        assert [part, "running"] in [line.split() for line in shown]
    assert f"API server  {embedded.server}" in shown
    assert [line for line in shown if line != line.rstrip()] == []
    assert local("kubeconfig").stdout.strip() == str(embedded.kubeconfig)
    assert embedded.server in local("kubeconfig", "--content").stdout


def test_kubectl_is_passed_on_with_its_exit_code(local: Local) -> None:
    assert local("kubectl", "get", "nodes", "-o", "name").stdout.split()[0] == "node/node-1"
    assert "NotFound" in local("kubectl", "get", "pod", "none", expect=1).stderr


def test_logs_of_components_nodes_and_pods(local: Local, embedded: Cluster, cluster_namespace: str) -> None:
    assert "API server ready" in local("logs", "supervisor").stdout
    assert local("logs", "node-1", "--tail", "1").stdout.count("\n") == 1
    apply(embedded, python_pod(cluster_namespace, "pod", "print('first'); print('second')"))
    output_of(embedded, cluster_namespace, "pod")
    assert local("logs", "pod", "-n", cluster_namespace, "--tail", "1").stdout == "second\n"
    assert "not found" in local("logs", "nothing", expect=1).stderr


def test_an_imported_image_runs_its_command_from_then_on(
    local: Local, embedded: Cluster, cluster_namespace: str
) -> None:
    pod = python_pod(cluster_namespace, "pod", "", image="my/own:1")
    del pod["spec"]["containers"][0]["command"]
    pod["spec"]["containers"][0]["args"] = ["world"]
    assert local("import", "my/own:1=echo hello").stdout == "image my/own:1 runs echo hello\n"
    apply(embedded, pod)
    assert output_of(embedded, cluster_namespace, "pod") == "hello world\n"


def test_a_node_comes_is_cordoned_dies_and_recovers(local: Local, embedded: Cluster, extra_node: str) -> None:
    assert get(embedded, "node", extra_node)["status"]["capacity"]["nvidia.com/gpu"] == "2"
    assert "cordoned" in local("node", "cordon", extra_node).stdout
    assert get(embedded, "node", extra_node)["spec"]["unschedulable"] is True
    local("node", "uncordon", extra_node)
    assert local("node", "kill", extra_node).stdout == "node extra is dead\n"
    assert "node extra is not running" in local("node", "preempt", extra_node, "--notice", "0", expect=1).stderr
    assert local("node", "recover", extra_node).stdout == "node extra is ready\n"
    assert local("node", "preempt", extra_node, "--notice", "1").stdout == "node extra goes in 1 s\n"
    wait_for(lambda: embedded.kubectl("get", "node", extra_node).returncode != 0, 20, "the end of the node")
    assert local("node", "recover", extra_node).stdout == "node extra is ready\n"


def test_an_outage_of_the_api_server_begins_and_ends(local: Local, embedded: Cluster, cluster_namespace: str) -> None:
    apply(embedded, web_pod(cluster_namespace, "web"))
    wait_ready(embedded, cluster_namespace, "web")
    assert local("apiserver", "stop").stdout == "the API server is stopped\n"
    try:
        local("kubectl", "get", "nodes", "--request-timeout=2s", expect=1)
    finally:
        assert local("apiserver", "start").stdout == "the API server is ready\n"
    statuses = get(embedded, "pod", "web", "-n", cluster_namespace)["status"]["containerStatuses"]
    assert statuses[0]["restartCount"] == 0
    wait_ready(embedded, cluster_namespace, "web")


def test_a_node_preempted_during_an_outage_leaves_and_stays_away(local: Local, embedded: Cluster) -> None:
    name = embedded.add_node(spot=True)
    log = embedded.folder.logs / f"{name}.log"
    local("apiserver", "stop")
    try:
        preempted = local("node", "preempt", name, "--notice", "12")
    finally:
        local("apiserver", "start")
    assert "could not give its notice yet" in preempted.stderr
    assert preempted.stdout == f"node {name} goes in 12 s\n"
    wait_for(lambda: embedded.kubectl("get", "node", name).returncode != 0, 40, "the end of the Node")
    wait_for(lambda: not embedded.order("status")["nodes"][name], 20, "the end of its processes")
    wait_for(lambda: not embedded.folder.node(name).exists(), 20, "the end of its disk")
    assert log.read_text().count(f"node {name} is up") == 1


def test_the_router_is_reached_from_outside_and_only_while_it_is_ready(
    embedded: Cluster, cluster_namespace: str
) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "door",
            "namespace": cluster_namespace,
            "labels": {"app.kubernetes.io/component": "router"},
        },
        "spec": {"selector": {"app": "router"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    apply(embedded, service, web_pod(cluster_namespace, "router"))
    wait_ready(embedded, cluster_namespace, "router")

    def answer() -> str:
        try:
            with urllib.request.urlopen(embedded.router, timeout=5) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    # After an outage of the API server its clients wait for up to 30 s, and one of them makes the endpoints.
    wait_for(lambda: answer() == "router", 60, "an answer from the router")
    embedded.kubectl("delete", "pod", "router", "-n", cluster_namespace, "--wait=false")
    wait_for(lambda: answer() == "", 20, "no answer without the router")
