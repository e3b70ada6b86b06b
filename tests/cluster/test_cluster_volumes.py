"""Claims and what is written to them, as any cluster with a default class has them."""

from typing import Any

from cluster_fixtures import Kubernetes, apply, get, wait_for
from cluster_objects import output_of, python_pod
from diffusion_local.claims import PROVISIONER
from diffusion_local.cluster import Cluster


def claim(namespace: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}, **spec},
    }


def with_data(namespace: str, name: str, program: str) -> dict[str, Any]:
    return python_pod(
        namespace,
        name,
        program,
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    )


def test_what_one_pod_writes_another_reads(cluster: Kubernetes, cluster_namespace: str) -> None:
    apply(cluster, claim(cluster_namespace))
    apply(cluster, with_data(cluster_namespace, "writer", "print(open('/data/note', 'w').write('kept'))"))
    output_of(cluster, cluster_namespace, "writer")
    apply(cluster, with_data(cluster_namespace, "reader", "print(open('/data/note').read())"))
    assert output_of(cluster, cluster_namespace, "reader").strip() == "kept"
    bound = get(cluster, "pvc", "data", "-n", cluster_namespace)
    assert bound["status"]["phase"] == "Bound"
    assert bound["status"]["accessModes"] == ["ReadWriteOnce"]


def test_a_volume_for_one_node_is_waited_for_by_another(embedded: Cluster, cluster_namespace: str) -> None:
    first, second = (node["metadata"]["name"] for node in get(embedded, "nodes")["items"][:2])
    apply(embedded, claim(cluster_namespace))
    for name, node in {"holder": first, "waiter": second}.items():
        made = with_data(cluster_namespace, name, "import time; print('has it', flush=True); time.sleep(600)")
        made["spec"]["nodeName"] = node
        apply(embedded, made)
        if node == first:
            wait_for(
                lambda: "has it" in embedded.kubectl("logs", "-n", cluster_namespace, "holder").stdout, 60, "a start"
            )
    about = ("events", "-n", cluster_namespace, "--field-selector", "reason=FailedAttachVolume")
    told = wait_for(lambda: get(embedded, *about)["items"], 60, "an event")
    assert told[0]["involvedObject"]["name"] == "waiter"
    assert told[0]["message"].startswith("Multi-Attach error for volume")
    assert get(embedded, "pod", "waiter", "-n", cluster_namespace)["status"]["phase"] == "Pending"
    embedded.kubectl("delete", "pod", "holder", "-n", cluster_namespace, "--grace-period=1", "--wait=false")
    wait_for(lambda: "has it" in embedded.kubectl("logs", "-n", cluster_namespace, "waiter").stdout, 60, "its turn")


def test_the_folder_goes_with_the_claim(control_plane: Cluster, namespace: str) -> None:
    apply(control_plane, claim(namespace, accessModes=["ReadWriteMany"]))
    wait_for(
        lambda: get(control_plane, "pvc", "data", "-n", namespace)["status"]["phase"] == "Bound", 20, "a bound claim"
    )
    volume = get(control_plane, "pvc", "data", "-n", namespace)["spec"]["volumeName"]
    folder = control_plane.folder.volumes / volume
    assert folder.is_dir()
    control_plane.kubectl("delete", "pvc", "data", "-n", namespace)
    wait_for(lambda: not folder.exists(), 20, "the end of the folder")
    gone = ("get", "pv", volume)
    wait_for(lambda: control_plane.kubectl(*gone).returncode != 0, 20, "the end of the volume")


def test_a_claim_that_cannot_be_a_folder_is_told_why(control_plane: Cluster, namespace: str) -> None:
    apply(control_plane, claim(namespace, volumeMode="Block"))
    events = ("events", "-n", namespace, "--field-selector", "reason=ProvisioningFailed")
    told = wait_for(lambda: get(control_plane, *events)["items"], 20, "an event")
    assert told[0]["message"] == "volumes of this class are folders: volumeMode must be Filesystem"


def test_a_class_of_our_provisioner_may_wait_for_a_pod_and_keep_its_volumes(
    embedded: Cluster, cluster_namespace: str
) -> None:
    late = {"metadata": {"name": "late"}, "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Retain"}
    apply(embedded, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": PROVISIONER, **late})
    apply(embedded, claim(cluster_namespace, storageClassName="late"))
    events = ("events", "-n", cluster_namespace, "--field-selector", "reason=WaitForFirstConsumer")
    wait_for(lambda: get(embedded, *events)["items"], 20, "an event")
    assert get(embedded, "pvc", "data", "-n", cluster_namespace)["status"]["phase"] == "Pending"
    apply(embedded, with_data(cluster_namespace, "writer", "print(open('/data/note', 'w').write('kept'))"))
    output_of(embedded, cluster_namespace, "writer")
    volume = get(embedded, "pvc", "data", "-n", cluster_namespace)["spec"]["volumeName"]
    embedded.kubectl("delete", "pod/writer", "pvc/data", "-n", cluster_namespace)
    wait_for(lambda: get(embedded, "pv", volume)["status"]["phase"] == "Released", 20, "a released volume")
    assert (embedded.folder.volumes / volume / "note").read_text() == "kept"
    embedded.kubectl("delete", "storageclass/late", f"pv/{volume}")
