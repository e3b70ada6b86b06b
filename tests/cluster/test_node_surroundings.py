"""Variables, names, users and limits: what a container sees of itself and its place, as on any cluster."""

import json
from typing import Any

import pytest

from cluster_fixtures import Kubernetes, wait_for
from node_pods import Pods, config_map, mount, pod, python, secret, shell, terminated


@pytest.fixture
def pods(cluster: Kubernetes, cluster_namespace: str) -> Pods:
    return Pods(cluster, cluster_namespace)


def test_variables_from_everywhere(pods: Pods) -> None:
    pods.apply(config_map("settings", COLOUR="red", SHAPE="round"), secret("keys", PASSWORD="hidden"))

    def field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    variables = [
        {"name": "PLAIN", "value": "p"},
        {"name": "BUILT", "value": "$(PLAIN)-$(UNKNOWN)-$$(PLAIN)"},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "PASSWORD"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": True}}},
        field("NAME", "metadata.name"),
        field("LABEL", "metadata.labels['app']"),
        field("UID_", "metadata.uid"),
        field("NODE", "spec.nodeName"),
        field("IP", "status.podIP"),
        {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    container = python(
        "import json,os,sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))",
        env=variables,
        envFrom=[
            {"configMapRef": {"name": "settings"}, "prefix": "S_"},
            {"secretRef": {"name": "no", "optional": True}},
        ],
        resources={"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "10m"}},
        args=["$(PLAIN)", "$(S_COLOUR)"],
    )
    made = pod("told", container)
    made["metadata"]["labels"] = {"app": "demo"}
    pods.apply(made)
    found = pods.wait_phase("told", "Succeeded")
    environment, arguments = json.loads(pods.logs("told"))
    expected = {
        "BUILT": "p-$(UNKNOWN)-$(PLAIN)",
        "KEY": "hidden",
        "S_COLOUR": "red",
        "S_SHAPE": "round",
        "NAME": "told",
        "LABEL": "demo",
        "UID_": found["metadata"]["uid"],
        "NODE": found["spec"]["nodeName"],
        "IP": found["status"]["podIP"],
        "CORES": "2",
        "MIB": "64",
        "HOSTNAME": "told",
    }
    assert {name: environment.get(name) for name in expected} == expected
    assert "NONE" not in environment
    assert arguments == ["p", "red"]
    assert found["status"]["qosClass"] == "Burstable"


def test_services_are_variables_of_containers_that_start_after_them(pods: Pods) -> None:
    port = {"name": "http", "port": 80}
    pods.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-app"}, "spec": {"ports": [port]}},
        pod("linked", shell('test -n "$WEB_APP_SERVICE_HOST" && env'), restartPolicy="OnFailure"),
        pod("plain", shell("env"), enableServiceLinks=False),
    )
    address = pods.get("web-app", "service")["spec"]["clusterIP"]
    for name in ("linked", "plain"):
        pods.wait_phase(name, "Succeeded")
    found = dict(line.split("=", 1) for line in pods.logs("linked").splitlines())
    assert found["WEB_APP_SERVICE_HOST"] == found["WEB_APP_PORT_80_TCP_ADDR"] == address
    assert found["WEB_APP_SERVICE_PORT_HTTP"] == "80"
    assert found["WEB_APP_PORT"] == f"tcp://{address}:80"
    assert "KUBERNETES_SERVICE_HOST=" in pods.logs("plain")
    assert "WEB_APP" not in pods.logs("plain")


def test_a_missing_reference_is_a_configuration_error_until_it_is_there(pods: Pods) -> None:
    variables = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}]
    pods.apply(pod("needs", shell("echo $KEY", env=variables)))
    status = pods.wait_waiting("needs", "CreateContainerConfigError")
    assert "keys" in status["state"]["waiting"]["message"]
    pods.apply(secret("keys", k="found"))
    pods.wait_phase("needs", "Succeeded")
    assert pods.logs("needs") == "found\n"


def test_the_default_token_reaches_the_api_server(pods: Pods) -> None:
    program = """
import json, os, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
context = ssl.create_default_context(cafile=folder + "ca.crt")
url = f"https://{host}:{port}/apis/authentication.k8s.io/v1/selfsubjectreviews"
request = urllib.request.Request(url, method="POST",
    data=json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).encode(),
    headers={"Authorization": "Bearer " + open(folder + "token").read(), "Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, context=context))["status"]["userInfo"]["username"])
"""
    pods.apply(pod("asks", python(program)))
    found = pods.wait_phase("asks", "Succeeded", "Failed")
    log = pods.logs("asks")
    assert found["status"]["phase"] == "Succeeded", log
    assert log == f"system:serviceaccount:{pods.namespace}:default\n"


def test_names_and_addresses_inside(pods: Pods) -> None:
    program = (
        "import socket; n=socket.gethostname(); print(n, socket.gethostbyname(n), socket.gethostbyname(n + '.peers'))"
    )
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "peers"},
        "spec": {"clusterIP": "None", "selector": {"set": "peers"}, "publishNotReadyAddresses": True},
    }
    tries = f'while ! python3 -c "{program}"; do sleep 0.2; done; sleep 300'
    container = {**shell(tries), "image": "python:3.11-slim"}
    made = pod("peer", container, hostname="first", subdomain="peers")
    made["metadata"]["labels"] = {"set": "peers"}
    pods.apply(service, made)
    log = pods.wait_log("peer", "first ")
    address = pods.get("peer")["status"]["podIP"]
    assert f"first {address} {address}" in log


def test_a_read_only_root_leaves_the_volumes_writable(pods: Pods) -> None:
    container = shell(
        "echo x > /tmp/x && cat /tmp/x; touch /x",
        securityContext={"readOnlyRootFilesystem": True},
        volumeMounts=[mount("tmp", "/tmp")],
    )
    pods.apply(pod("strict", container, volumes=[{"name": "tmp", "emptyDir": {}}]))
    pods.wait_phase("strict", "Failed")
    assert pods.logs("strict").startswith("x\n")
    assert "Read-only file system" in pods.logs("strict")


def test_a_restricted_pod_runs_and_may_listen_on_low_ports(pods: Pods) -> None:
    strict = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    program = "import socket,os; s=socket.socket(); s.bind((os.environ['IP'], 81)); print('bound', os.getpid())"
    container = python(
        program, securityContext=strict, env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    )
    context = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pods.apply(pod("low", container, securityContext=context))
    found = pods.wait_phase("low", "Succeeded", "Failed")
    assert terminated(found["status"]["containerStatuses"][0])["exitCode"] == 0, pods.logs("low")
    assert pods.logs("low") == "bound 1\n"


def test_too_much_memory_is_killed_and_said(pods: Pods) -> None:
    lines = (
        "import time",
        "hold=[]",
        "while True:",
        "  hold.append(bytearray(b'x' * (1 << 20)))",
        "  time.sleep(0.01)",
    )
    limited = python("\n".join(lines), resources={"limits": {"memory": "64Mi"}})
    pods.apply(pod("greedy", limited))
    found = pods.wait_phase("greedy", "Failed")
    end = terminated(found["status"]["containerStatuses"][0])
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


def test_too_much_memory_is_said_however_quickly_it_is_taken(pods: Pods) -> None:
    limits = {"limits": {"memory": "64Mi"}}
    pods.apply(*(pod(f"hasty-{n}", python("hold = b'x' * (300 << 20)", resources=limits)) for n in range(3)))
    for n in range(3):
        found = pods.wait_phase(f"hasty-{n}", "Failed", "Succeeded")
        assert terminated(found["status"]["containerStatuses"][0])["reason"] == "OOMKilled"


def test_pretended_gpus_are_counted_by_the_scheduler(pods: Pods) -> None:
    limits = {"limits": {"nvidia.com/gpu": "1000"}}
    pods.apply(pod("wishes", shell("true", resources=limits)))

    def unschedulable() -> bool:
        entries = pods.get("wishes")["status"].get("conditions") or []
        return any(entry["type"] == "PodScheduled" and entry.get("reason") == "Unschedulable" for entry in entries)

    wait_for(unschedulable, 60, "the scheduler says that no node has so many GPUs")


def test_a_pod_may_ask_to_be_root(pods: Pods) -> None:
    context = {"runAsUser": 0, "runAsGroup": 0, "fsGroup": 0, "supplementalGroups": [0]}
    pods.apply(pod("root", shell("id -u"), securityContext=context))
    pods.wait_phase("root", "Succeeded", "Failed")
    assert pods.logs("root") == "0\n"


def test_a_container_that_is_root_and_may_not_be_is_not_started(pods: Pods) -> None:
    torn, unsaid = {"runAsUser": 0, "runAsNonRoot": True}, {"runAsNonRoot": True}
    pods.apply(
        *(
            pod(name, shell("true", securityContext=context))
            for name, context in {"torn": torn, "unsaid": unsaid}.items()
        )
    )
    for name, why in {"torn": "breaks non-root policy", "unsaid": "image will run as root"}.items():
        status = pods.wait_waiting(name, "CreateContainerConfigError")
        assert why in status["state"]["waiting"]["message"]


def test_two_pods_may_bind_the_same_port_on_all_addresses(pods: Pods) -> None:
    program = "import socket; s=socket.create_server(('', 8000)); print('bound', flush=True); s.accept()"
    node: dict[str, str] = {}
    for name in ("one", "two"):
        pods.apply(pod(name, python(program), **node))
        pods.wait_log(name, "bound")
        node = {"nodeName": pods.get(name)["spec"]["nodeName"]}


def test_the_host_name_is_everywhere_and_may_be_the_whole_name(pods: Pods) -> None:
    look = shell("hostname; cat /etc/hostname")
    pods.apply(pod("short", look, hostname="first", subdomain="peers"))
    pods.apply(pod("whole", look, hostname="first", subdomain="peers", setHostnameAsFQDN=True))
    for name in ("short", "whole"):
        pods.wait_phase(name, "Succeeded")
    assert pods.logs("short") == "first\n" * 2
    assert pods.logs("whole") == f"first.peers.{pods.namespace}.svc.cluster.local\n" * 2


def test_a_name_that_nobody_has_is_unknown_and_nothing_to_be_tried_again(pods: Pods) -> None:
    asks = """
import socket
for name in ("nobody-has-this-name", "no-service.kube-system.svc.cluster.local"):
    try:
        print(socket.getaddrinfo(name, 80))
    except socket.gaierror as error:
        print(error.errno == socket.EAI_NONAME, error.strerror)
"""
    pods.apply(pod("asks", python(asks)))
    pods.wait_phase("asks", "Succeeded")
    assert pods.logs("asks") == "True Name or service not known\n" * 2
