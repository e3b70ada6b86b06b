"""Volumes, variables and what a container sees of itself, as on any cluster."""

import base64
import json
from typing import Any

import pytest

from cluster_fixtures import Kubernetes
from deadline import wait_until
from node_pods import Pods, pod, python, shell, terminated


@pytest.fixture
def pods(cluster: Kubernetes, cluster_namespace: str) -> Pods:
    return Pods(cluster, cluster_namespace)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def mount(name: str, path: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "mountPath": path, **fields}


def test_files_of_config_maps_and_secrets_with_modes_and_chosen_keys(pods: Pods) -> None:
    pods.apply(config_map("settings", a="first", b="second"), secret("keys", k="hidden"))
    look = "cat /settings/a; echo; ls /chosen; cat /chosen/deep/b; echo; cat /keys/k; stat -Lc ' %a' /keys/k; ls /gone"
    pods.apply(
        pod(
            "files",
            shell(
                look,
                volumeMounts=[
                    mount("settings", "/settings"),
                    mount("chosen", "/chosen"),
                    mount("keys", "/keys"),
                    mount("gone", "/gone"),
                ],
            ),
            volumes=[
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "chosen", "configMap": {"name": "settings", "items": [{"key": "b", "path": "deep/b"}]}},
                {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
                {"name": "gone", "configMap": {"name": "none", "optional": True}},
            ],
        )
    )
    pods.wait_phase("files", "Succeeded")
    assert pods.logs("files") == "first\ndeep\nsecond\nhidden 400\n"


def test_a_missing_config_map_is_waited_for(pods: Pods) -> None:
    volumes = [{"name": "settings", "configMap": {"name": "later"}}]
    pods.apply(pod("waits", shell("cat /settings/a", volumeMounts=[mount("settings", "/settings")]), volumes=volumes))
    pods.wait_waiting("waits", "ContainerCreating")
    pods.apply(config_map("later", a="here"))
    pods.wait_phase("waits", "Succeeded", seconds=240)
    assert pods.logs("waits") == "here"


def test_a_change_reaches_a_running_pod_all_at_once(pods: Pods) -> None:
    pods.apply(config_map("settings", a="1", b="1"))
    watches = "while true; do echo $(cat /settings/..data/a /settings/..data/b); sleep 0.2; done"
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    pods.apply(pod("watches", shell(watches, volumeMounts=[mount("settings", "/settings")]), volumes=volumes))
    pods.wait_log("watches", "1")
    pods.patch("configmap", "settings", {"data": {"a": "2", "b": "2", "c": "2"}})
    pods.wait_log("watches", "22")
    assert set(pods.logs("watches").split()) <= {"11", "22"}


def test_volumes_from_the_api_are_read_only(pods: Pods) -> None:
    pods.apply(config_map("settings", a="1"))
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    pods.apply(
        pod("writes", shell("echo 2 > /settings/new", volumeMounts=[mount("settings", "/settings")]), volumes=volumes)
    )
    pods.wait_phase("writes", "Failed")
    assert "Read-only" in pods.logs("writes")


def test_an_empty_dir_is_shared_by_containers_and_mounted_anywhere(pods: Pods) -> None:
    writes = shell("echo hello > /var/lib/some/where/file", "writes", volumeMounts=[mount("v", "/var/lib/some/where")])
    reads = shell(
        "until test -s /etc/else/where/file; do sleep 0.1; done; cat /etc/else/where/file; ! touch /etc/else/where/x",
        "reads",
        volumeMounts=[mount("v", "/etc/else/where", readOnly=True)],
    )
    pods.apply(pod("shares", writes, reads, volumes=[{"name": "v", "emptyDir": {}}]))
    pods.wait_phase("shares", "Succeeded")
    assert pods.logs("shares", "-c", "reads").startswith("hello\n")


def test_sub_paths_and_a_full_memory_volume(pods: Pods) -> None:
    script = "echo x > /inner/file; cat /outer/below/file; dd if=/dev/zero of=/small/big bs=1024 count=4096"
    mounts = [mount("v", "/inner", subPath="below"), mount("v", "/outer"), mount("small", "/small")]
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    pods.apply(pod("full", shell(script, volumeMounts=mounts), volumes=volumes))
    pods.wait_phase("full", "Failed")
    assert pods.logs("full").startswith("x\n")
    assert "No space left" in pods.logs("full")


def test_a_claim_keeps_its_files_from_pod_to_pod(pods: Pods) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    }
    volumes = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]
    mounts = [mount("disk", "/disk")]
    pods.apply(claim, pod("writes", shell("echo kept > /disk/file", volumeMounts=mounts), volumes=volumes))
    pods.wait_phase("writes", "Succeeded")
    fixed = [mount("disk", "/disk", readOnly=True)]
    pods.apply(pod("reads", shell("cat /disk/file; touch /disk/x", volumeMounts=fixed), volumes=volumes))
    pods.wait_phase("reads", "Failed")
    assert pods.logs("reads").startswith("kept\n")


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


def test_a_missing_reference_is_a_configuration_error_until_it_is_there(pods: Pods) -> None:
    variables = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}]
    pods.apply(pod("needs", shell("echo $KEY", env=variables)))
    status = pods.wait_waiting("needs", "CreateContainerConfigError")
    assert "keys" in status["state"]["waiting"]["message"]
    pods.apply(secret("keys", k="found"))
    pods.wait_phase("needs", "Succeeded")
    assert pods.logs("needs") == "found\n"


def test_a_projected_volume_holds_a_bound_token_and_facts_about_the_pod(pods: Pods) -> None:
    pods.apply(config_map("settings", a="1"))
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "somebody", "expirationSeconds": 600}},
        {"configMap": {"name": "settings", "items": [{"key": "a", "path": "a"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    made = pod(
        "known",
        shell("cat /p/token; echo; cat /p/a /p/labels; echo; sleep 300", volumeMounts=[mount("p", "/p")]),
        volumes=[{"name": "p", "projected": {"sources": sources}}],
    )
    made["metadata"]["labels"] = {"app": "demo"}
    pods.apply(made)
    log = pods.wait_log("known", 'app="demo"')
    token, facts = log.split("\n", 1)
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["aud"] == ["somebody"]
    assert 500 < claims["exp"] - claims["iat"] <= 700
    assert claims["kubernetes.io"]["pod"]["name"] == "known"
    assert facts.startswith("1")


def test_labels_that_change_are_seen_by_the_pod(pods: Pods) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    volumes = [{"name": "p", "downwardAPI": {"items": items}}]
    made = pod(
        "marked",
        shell("while true; do cat /p/labels; echo; sleep 0.3; done", volumeMounts=[mount("p", "/p")]),
        volumes=volumes,
    )
    made["metadata"]["labels"] = {"stage": "one"}
    pods.apply(made)
    pods.wait_log("marked", 'stage="one"')
    pods.run("label", "pod", "marked", "stage=two", "--overwrite")
    pods.wait_log("marked", 'stage="two"', 180)


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


def test_pretended_gpus_are_counted_by_the_scheduler(pods: Pods) -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": "1000"}}}
    pods.apply(pod("wishes", shell("true", **limits)))

    def unschedulable() -> bool:
        entries = pods.get("wishes")["status"].get("conditions") or []
        return any(entry["type"] == "PodScheduled" and entry.get("reason") == "Unschedulable" for entry in entries)

    wait_until(unschedulable, 60, "the scheduler says that no node has so many GPUs")


def test_a_pod_may_ask_to_be_root(pods: Pods) -> None:
    context = {"runAsUser": 0, "runAsGroup": 0, "fsGroup": 0, "supplementalGroups": [0]}
    pods.apply(pod("root", shell("id -u"), securityContext=context))
    pods.wait_phase("root", "Succeeded", "Failed")
    assert pods.logs("root") == "0\n"
