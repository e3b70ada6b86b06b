"""Probes and logs, as on any cluster."""

import itertools
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster_fixtures import Kubernetes, wait_for
from diffusion_local.cluster import Cluster
from node_pods import PROMPT, Pods, conditions, pod, python, shell
from object_history import started_kubectl

POD_IP = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
SERVER = """
import os
from http.server import *
HTTPServer((os.environ["IP"], 8000), SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
def pods(cluster: Kubernetes, cluster_namespace: str) -> Pods:
    return Pods(cluster, cluster_namespace)


def wait_ready(pods: Pods, name: str, ready: bool) -> None:
    wanted = "True" if ready else "False"
    wait_for(lambda: conditions(pods.get(name)).get("Ready") == wanted, 120, f"Ready of {name} is {wanted}")


def turns_of(kind: str, states: list[dict[str, Any]]) -> tuple[str, ...]:
    """What a condition was over time, each value once where it stayed so."""
    values = (conditions(state).get(kind) for state in states)
    return tuple(value for value, _ in itertools.groupby(value for value in values if value is not None))


def test_http_readiness_over_a_named_port(pods: Pods) -> None:
    container = python(
        "import time; time.sleep(1)\n" + SERVER,
        env=[POD_IP],
        ports=[{"name": "web", "containerPort": 8000}],
        readinessProbe={"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 1},
    )
    pods.apply(pod("serves", container))
    wait_for(lambda: pods.main("serves").get("started"), 60, "the container is started")
    wait_ready(pods, "serves", True)


def test_http_readiness_takes_4xx_as_no(pods: Pods) -> None:
    probe = {"httpGet": {"path": "/missing", "port": 8000}, "periodSeconds": 1}
    pods.apply(pod("refuses", python(SERVER, env=[POD_IP], readinessProbe=probe)))
    pods.wait_log("refuses", "404")
    assert conditions(pods.get("refuses"))["Ready"] == "False"
    assert pods.get("refuses")["status"]["phase"] == "Running"


def test_tcp_readiness(pods: Pods) -> None:
    probe = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    pods.apply(pod("listens", python(SERVER, env=[POD_IP], readinessProbe=probe)))
    wait_ready(pods, "listens", True)


def test_exec_readiness_comes_and_goes(pods: Pods, tmp_path: Path) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "failureThreshold": 1, **PROMPT}
    with pods.history(tmp_path) as seen:
        pods.apply(pod("turns", shell("touch /tmp/ready; sleep 4; rm /tmp/ready; sleep 300", readinessProbe=probe)))
        was = "True", "False"
        wait_for(lambda: turns_of("Ready", seen.states())[-2:] == was, 120, "it is ready, and then it is not")
    ready = next(entry for entry in pods.get("turns")["status"]["conditions"] if entry["type"] == "Ready")
    assert ready["reason"] == "ContainersNotReady"
    assert ready["message"] == "containers with unready status: [main]"


def test_a_failing_liveness_probe_restarts_the_container(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "failureThreshold": 2, **PROMPT}
    script = "trap 'exit 5' TERM; touch /tmp/alive; sleep 2; rm /tmp/alive; while true; do sleep 0.2; done"
    end = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 60}
    pods.apply(pod("ails", shell(script, livenessProbe=probe), **end))
    wait_for(lambda: pods.main("ails").get("restartCount", 0) >= 1, 120, "the container was restarted")
    assert pods.main("ails")["lastState"]["terminated"]["exitCode"] == 5


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
def test_liveness_over_the_network_restarts_what_does_not_listen(pods: Pods, kind: str) -> None:
    probe = {kind: {"port": 9999}, "periodSeconds": 1, "failureThreshold": 2, "initialDelaySeconds": 1}
    name = f"deaf-{kind.lower()}"
    end = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 60}
    pods.apply(pod(name, shell("trap 'exit 5' TERM; sleep 300 & wait", livenessProbe=probe), **end))
    wait_for(lambda: pods.main(name).get("restartCount", 0) >= 1, 120, "the container was restarted")
    assert pods.main(name)["lastState"]["terminated"]["exitCode"] == 5


def test_a_probe_that_takes_too_long_has_failed(pods: Pods) -> None:
    slow = {"exec": {"command": ["sh", "-c", "sleep 30"]}, "periodSeconds": 1, "timeoutSeconds": 1}
    pods.apply(pod("dozes", shell("sleep 300", readinessProbe={**slow, "failureThreshold": 1})))
    wait_for(lambda: "timed out" in pods.run("events", "--for", "pod/dozes"), 60, "it is told")
    assert conditions(pods.get("dozes"))["Ready"] == "False"


def test_probes_run_in_the_working_folder(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "here"]}, **PROMPT}
    container = shell("touch here; sleep 300", workingDir="/opt/some/where", readinessProbe=probe)
    pods.apply(pod("placed", container))
    wait_ready(pods, "placed", True)


def test_a_startup_probe_holds_the_others_back(pods: Pods, tmp_path: Path) -> None:
    ask = {"exec": {"command": ["test", "-e", "/tmp/up"]}, **PROMPT}
    probes: dict[str, Any] = {
        "startupProbe": {**ask, "failureThreshold": 60},
        "livenessProbe": {**ask, "failureThreshold": 1},
    }
    with pods.history(tmp_path) as seen:
        pods.apply(pod("slow", shell("sleep 3; touch /tmp/up; sleep 300", **probes), restartPolicy="Always"))
        wait_ready(pods, "slow", True)
        wait_for(lambda: turns_of("Ready", seen.states())[-1:] == ("True",), 60, "it was seen to be ready")
    statuses = [state["status"].get("containerStatuses") or [{}] for state in seen.states()]
    running = [status[0] for status in statuses if "running" in status[0].get("state", {})]
    assert (running[0]["started"], running[0]["ready"]) == (False, False)
    assert (running[-1]["started"], running[-1]["ready"]) == (True, True)
    assert not [status for status in running if status["ready"] and not status["started"]]
    assert pods.main("slow")["restartCount"] == 0


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
def test_a_startup_probe_that_never_passes_kills(pods: Pods, kind: str) -> None:
    startup = {
        kind: {"port": 9999},
        "periodSeconds": 1,
        "failureThreshold": 2,
        "terminationGracePeriodSeconds": 1,
    }
    name = f"never-{kind.lower()}"
    pods.apply(pod(name, shell("sleep 300", startupProbe=startup), restartPolicy="Never"))
    found = pods.wait_phase(name, "Failed")
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] in (137, 143)


def test_logs_tail_since_bytes_and_timestamps(pods: Pods) -> None:
    pods.apply(pod("talks", shell("for i in 1 2 3 4 5; do echo line $i; done; printf end")))
    pods.wait_phase("talks", "Succeeded")
    assert pods.logs("talks") == "line 1\nline 2\nline 3\nline 4\nline 5\nend"
    assert pods.logs("talks", "--tail=2") == "line 5\nend"
    assert pods.logs("talks", "--limit-bytes=6") == "line 1"
    stamp, text = pods.logs("talks", "--timestamps", "--tail=2").splitlines()[0].split(" ", 1)
    assert stamp.endswith("Z")
    assert text == "line 5"
    assert "line 1" in pods.logs("talks", "--since=1h")
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert pods.logs("talks", f"--since-time={later}") == ""
    assert "line 1" in pods.logs("talks", "--since-time=2020-01-01T00:00:00Z")


def test_logs_follow_until_the_container_ends(pods: Pods) -> None:
    script = "trap 'echo last; exit 0' TERM; echo first; while true; do sleep 0.1; done"
    pods.apply(pod("counts", shell(script), terminationGracePeriodSeconds=60))
    pods.wait_log("counts", "first")
    follow = ("logs", "-n", pods.namespace, "-f", "counts")
    with started_kubectl(pods.kubernetes, *follow, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "first\n"
        pods.delete("counts")
        rest, _ = following.communicate(timeout=240)
    assert rest.endswith("last\n")


def test_logs_of_a_container_that_was_never_restarted_have_no_previous(pods: Pods) -> None:
    pods.apply(pod("single", shell("echo x")))
    pods.wait_phase("single", "Succeeded")
    done = pods.kubernetes.kubectl("-n", pods.namespace, "logs", "--previous", "single")
    assert done.returncode != 0
    assert "previous terminated container" in done.stderr


def test_what_a_node_of_processes_does_not_do_is_refused_clearly(embedded: Cluster, pods: Pods) -> None:
    pods.apply(pod("runs", shell("sleep 300")))
    pods.wait_phase("runs", "Running")
    copied, debugged = ("cp", "runs:/etc/hosts", "/dev/null"), ("debug", "runs", "-i", "--image", "busybox:1.37")
    for words, said in {
        ("exec", "runs", "--", "true"): "exec is not supported by this development node",
        ("attach", "runs"): "attach is not supported by this development node",
        ("port-forward", "runs", ":80"): "port-forward is not supported by this development node",
        copied: "exec is not supported by this development node",
        debugged: "this development node runs no ephemeral containers",
    }.items():
        done = embedded.kubectl("-n", pods.namespace, *words)
        assert done.returncode != 0
        assert said in done.stderr
