"""The chart on a real API server, in a namespace that enforces the Pod Security level `restricted`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chart_rendering import CHART, RELEASE, helm, installed_chart
from cluster_fixtures import get
from custom_resource_tables import training
from deadline import wait_until
from diffusion_local.cluster import Cluster
from service_simulation import Simulation, stored, training_children


@pytest.fixture(scope="module")
def installed(control_plane: Cluster) -> Iterator[str]:
    with installed_chart(control_plane) as namespace:
        yield namespace


def test_the_operators_pods_are_admitted(control_plane: Cluster, installed: str) -> None:
    def pods() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = get(control_plane, "pods", "-n", installed)["items"]
        return found if len(found) == 2 else []

    assert wait_until(pods, 30, "two operator pods")


def test_installing_it_again_changes_nothing(control_plane: Cluster, installed: str) -> None:
    before = get(control_plane, "deployment", RELEASE, "-n", installed)["metadata"]["generation"]
    where = (RELEASE, str(CHART), "--namespace", installed, "--take-ownership", "--set", "replicas=2")
    done = helm("upgrade", "--install", *where, kubeconfig=control_plane.kubeconfig)
    assert done.returncode == 0, done.stderr
    assert get(control_plane, "deployment", RELEASE, "-n", installed)["metadata"]["generation"] == before


def _children_of_both_kinds(namespace: str) -> list[dict[str, Any]]:
    simulation = Simulation()
    made = list(simulation.reconcile().apply)
    made += training_children(stored(training(spec__publish={"claim": {"size": "1Gi"}})))
    return [{**one, "metadata": {**one["metadata"], "namespace": namespace, "ownerReferences": []}} for one in made]


def test_the_server_accepts_every_child_and_restricted_every_pod(control_plane: Cluster, installed: str) -> None:
    kinds = set()
    for child in _children_of_both_kinds(installed):
        kinds.add(child["kind"])
        _accepted(control_plane, child)
        if template := child["spec"].get("template") if "spec" in child else None:
            pod = {"apiVersion": "v1", "kind": "Pod", **template}
            pod["metadata"] = {**pod["metadata"], "name": child["metadata"]["name"], "namespace": installed}
            _accepted(control_plane, pod)
    assert kinds >= {"Job", "Deployment", "Service", "ConfigMap", "PodDisruptionBudget", "PersistentVolumeClaim"}


def _accepted(control_plane: Cluster, manifest: dict[str, Any]) -> None:
    args = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    done = control_plane.kubectl(*args, input=json.dumps(manifest))
    assert done.returncode == 0, done.stderr
    assert "would violate PodSecurity" not in done.stderr


QUESTIONS = {
    "list pods": True,
    "watch jobs.batch": True,
    "create deployments.apps": True,
    "update diffusiontrainings.diffusion.dev --subresource=status": True,
    "create tokenreviews.authentication.k8s.io": True,
    "get secrets": True,
    "list secrets": False,
    "watch secrets": False,
    "create pods": False,
    "delete pods": False,
    "create pods --subresource=exec": False,
    "update diffusiontrainings.diffusion.dev": False,
    "delete persistentvolumeclaims": False,
    "create clusterroles.rbac.authorization.k8s.io": False,
    "impersonate users": False,
    "delete nodes": False,
}


@pytest.mark.parametrize(("question", "answer"), QUESTIONS.items(), ids=QUESTIONS)
def test_what_the_operator_may_do(control_plane: Cluster, installed: str, question: str, answer: bool) -> None:
    who = f"--as=system:serviceaccount:{installed}:{RELEASE}"
    said = control_plane.kubectl("auth", "can-i", *question.split(), who, "-n", "default").stdout.strip()
    assert said == ("yes" if answer else "no")


def test_people_with_edit_and_view_get_their_share(control_plane: Cluster, installed: str) -> None:
    def may(role: str, *question: str) -> bool:
        group = ("--as=someone", f"--as-group=test-{role}")
        return control_plane.kubectl("auth", "can-i", *question, *group).stdout.strip() == "yes"

    for role in ("edit", "view"):
        bind = ("create", "clusterrolebinding", f"test-{role}", f"--clusterrole={role}", f"--group=test-{role}")
        assert control_plane.kubectl(*bind).returncode == 0
    try:
        wait_until(lambda: may("edit", "create", "diffusiontrainings.diffusion.dev"), 20, "edit may create trainings")
        wait_until(lambda: may("view", "get", "diffusionservices.diffusion.dev"), 20, "view may get services")
        assert may("edit", "update", "diffusionservices.diffusion.dev", "--subresource=scale")
        assert not may("view", "create", "diffusiontrainings.diffusion.dev")
        assert not may("edit", "update", "diffusiontrainings.diffusion.dev", "--subresource=status")
    finally:
        for role in ("edit", "view"):
            control_plane.kubectl("delete", "clusterrolebinding", f"test-{role}")
