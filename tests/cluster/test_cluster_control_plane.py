"""What the control plane without nodes gives to other tests."""

from cluster_fixtures import apply, get, wait_for
from diffusion_local.cluster import Cluster


def test_it_is_the_version_that_the_recipe_names(control_plane: Cluster) -> None:
    assert '"gitVersion":"v1.37.2"' in control_plane.kubectl("get", "--raw", "/version").stdout.replace(" ", "")


def test_controllers_run_and_no_node_does(control_plane: Cluster, namespace: str) -> None:
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "busybox:1.37"}]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one", "namespace": namespace}}
    apply(control_plane, job | {"spec": {"template": pod}})
    pods = wait_for(lambda: get(control_plane, "pods", "-n", namespace)["items"], 20, "the Job's pod")
    assert pods[0]["status"]["phase"] == "Pending"
    assert not get(control_plane, "nodes")["items"]


def test_an_outage_ends_with_all_objects_still_there(control_plane: Cluster, namespace: str) -> None:
    control_plane.stop_apiserver()
    try:
        assert control_plane.kubectl("get", "namespaces", "--request-timeout=2s").returncode != 0
    finally:
        control_plane.start_apiserver()
    assert get(control_plane, "namespace", namespace)["status"]["phase"] == "Active"


def test_a_client_certificate_is_its_user_and_groups(control_plane: Cluster) -> None:
    access = control_plane.client_certificate("system:node:n1", ["system:nodes"])
    shown = control_plane.kubectl("--kubeconfig", str(access.kubeconfig), "auth", "whoami", "-o", "json").stdout
    assert '"system:node:n1"' in shown
    assert '"system:nodes"' in shown
