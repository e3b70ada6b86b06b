"""The operator with the rights that the chart gives it, and no others, on a real API server."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart_rendering import RELEASE, installed_chart
from cluster_fixtures import apply, get
from custom_resource_tables import install_crds, service, training
from deadline import wait_until
from diffusion_local.cluster import Cluster
from operator_process import operator


class AsServiceAccount:
    """The cluster, seen with the token of the chart's ServiceAccount."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        made = cluster.kubectl("create", "token", RELEASE, "-n", namespace)
        assert made.returncode == 0, made.stderr
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"] = [{"name": user["name"], "user": {"token": made.stdout.strip()}} for user in config["users"]]
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(config))
        self._cluster = cluster

    def kubectl(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run kubectl as the ServiceAccount."""
        return self._cluster.kubectl("--kubeconfig", str(self.kubeconfig), *args, input=input)


@pytest.fixture
def home(control_plane: Cluster) -> Iterator[str]:
    install_crds(control_plane)
    with installed_chart(control_plane) as namespace:
        yield namespace


def placed(raw: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    return {**raw, "metadata": {"name": name, "namespace": namespace}}


def test_it_makes_changes_and_deletes_with_them(
    control_plane: Cluster, home: str, namespace: str, tmp_path: Path
) -> None:
    def deployments() -> set[str]:
        found = get(control_plane, "deployments", "-n", namespace)["items"]
        return {one["metadata"]["name"] for one in found if "engine" in one["metadata"]["name"]}

    pods = wait_until(lambda: get(control_plane, "pods", "-n", home)["items"], 30, "operator pods")
    account = AsServiceAccount(control_plane, home, tmp_path)
    with operator(account, "--pod-name", pods[0]["metadata"]["name"], home=home) as running:
        wait_until(running.leads, 40, "leadership")
        run = training(spec__publish={"claim": {"size": "1Gi"}})
        apply(control_plane, placed(run, "run", namespace), placed(service(), "draw", namespace))
        wait_until(lambda: get(control_plane, "jobs", "-n", namespace)["items"], 30, "the training's Job")
        before = wait_until(deployments, 30, "the service's Deployment")
        apply(control_plane, placed(service(spec__batching__maxBatch=2), "draw", namespace))
        wait_until(lambda: deployments() - before, 30, "the next revision's Deployment")
        apply(control_plane, placed({**run, "spec": {**run["spec"], "suspend": True}}, "run", namespace))
        wait_until(lambda: not get(control_plane, "jobs", "-n", namespace)["items"], 30, "its Jobs to go")
        for kind in ("dt", "dsv"):
            stored = get(control_plane, kind, "-n", namespace)["items"]
            assert all(one["status"]["conditions"] for one in stored)
        leader = get(control_plane, "pod", pods[0]["metadata"]["name"], "-n", home)["metadata"]["labels"]
        assert leader["diffusion.dev/leader"] == "true"
        assert running.metric('diffusion_operator_api_seconds_count{verb="DELETE"}') > 0
        assert "orbidden" not in running.text()
        assert running.end() == 0


def test_with_rights_in_one_namespace_it_serves_that_one_and_asks_for_no_more(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    install_crds(control_plane)
    with (
        installed_chart(control_plane, f"watchNamespaces={{{namespace}}}") as home,
        operator(
            AsServiceAccount(control_plane, home, tmp_path), "--watch-namespaces", namespace, home=home
        ) as running,
    ):
        wait_until(running.leads, 40, "leadership")
        for place in (home, namespace):
            apply(control_plane, placed(training(), "run", place))
        wait_until(lambda: get(control_plane, "jobs", "-n", namespace)["items"], 30, "the training's Job")
        assert "status" not in get(control_plane, "dt", "run", "-n", home)
        patch = ("patch", "dt", "run", "-n", namespace, "--type=merge", "-p", '{"spec": {"suspend": true}}')
        assert control_plane.kubectl(*patch).returncode == 0
        suspended = lambda: get(control_plane, "dt", "run", "-n", namespace)["status"]["phase"] == "Suspended"  # noqa: E731
        wait_until(suspended, 30, "what kopf heard")
        assert "orbidden" not in running.text()
        assert running.says("healthz") == (200, "ok\n")
        assert running.end() == 0


def test_the_service_for_agents_selects_the_leader_s_pod_alone(
    control_plane: Cluster, home: str, tmp_path: Path
) -> None:
    wanted = get(control_plane, "service", f"{RELEASE}-agents", "-n", home)["spec"]["selector"]
    selector = ",".join(f"{name}={value}" for name, value in wanted.items())
    wait_until(lambda: len(_pods(control_plane, home, "")) == 2, 30, "two operator pods")
    one, other = sorted(_pods(control_plane, home, ""))
    account = AsServiceAccount(control_plane, home, tmp_path)
    with operator(account, "--pod-name", one, home=home) as first:
        wait_until(first.leads, 40, "the first leader")
        with operator(account, "--pod-name", other, home=home) as second:
            assert _pods(control_plane, home, selector) == {one}
            assert first.end() == 0
            wait_until(second.leads, 20, "the second leader")
            assert _pods(control_plane, home, selector) == {other}
            second.kill()
    assert _pods(control_plane, home, selector) == {other}, "a killed process cannot take its label away"
    with operator(account, "--pod-name", other, home=home) as restarted:
        wait_until(lambda: not _pods(control_plane, home, selector), 20, "the label to go before the Lease is had")
        wait_until(restarted.leads, 40, "leadership, when the old Lease has run out")
        assert _pods(control_plane, home, selector) == {other}


def _pods(cluster: Cluster, namespace: str, selector: str) -> set[str]:
    found = get(cluster, "pods", "-n", namespace, "--selector", selector)["items"]
    return {one["metadata"]["name"] for one in found}
