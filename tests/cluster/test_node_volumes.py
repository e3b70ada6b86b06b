"""Volumes of every kind, as on any cluster."""

import base64
import json

import pytest

from cluster_fixtures import Kubernetes, wait_for
from node_pods import Pods, config_map, mount, pod, secret, shell


@pytest.fixture
def pods(cluster: Kubernetes, cluster_namespace: str) -> Pods:
    return Pods(cluster, cluster_namespace)


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


def test_a_user_writes_to_volumes_of_its_group_and_reads_its_secrets(pods: Pods) -> None:
    context = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
    places = [mount("scratch", "/scratch"), mount("memory", "/memory"), mount("keys", "/keys")]
    volumes = [
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
    ]
    script = "for place in scratch memory; do cp /keys/k /$place/copy && cat /$place/copy; done; echo out > /dev/stdout"
    pods.apply(secret("keys", k="hidden\n"))
    pods.apply(pod("user", shell(script, volumeMounts=places), securityContext=context, volumes=volumes))
    pods.wait_phase("user", "Succeeded", "Failed")
    assert pods.logs("user") == "hidden\nhidden\nout\n"


def test_a_missing_config_map_is_waited_for(pods: Pods) -> None:
    volumes = [{"name": "settings", "configMap": {"name": "later"}}]
    pods.apply(pod("waits", shell("cat /settings/a", volumeMounts=[mount("settings", "/settings")]), volumes=volumes))
    pods.wait_waiting("waits", "ContainerCreating")
    pods.apply(config_map("later", a="here"))
    pods.wait_phase("waits", "Succeeded", seconds=240)
    assert pods.logs("waits") == "here"


def test_a_change_reaches_a_running_pod_all_at_once(pods: Pods) -> None:
    pods.apply(config_map("settings", a="1", b="1"))
    # From within one state of the folder, which may be taken away before both are read: then there is nothing to say.
    watches = "while true; do read=$(cd -P /settings/..data && cat a b) && echo $read; sleep 0.2; done"
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


def test_a_volume_of_the_pods_own_is_claimed_for_it_and_goes_with_it(pods: Pods) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    pods.apply(pod("own", shell("echo kept > /s/f; cat /s/f", volumeMounts=[mount("scratch", "/s")]), volumes=[volume]))
    pods.wait_phase("own", "Succeeded")
    assert pods.logs("own") == "kept\n"
    assert pods.get("own-scratch", "pvc")["status"]["phase"] == "Bound"
    pods.delete("own")
    wait_for(lambda: not pods.exists("own-scratch", "pvc"), 60, "the end of the claim")
