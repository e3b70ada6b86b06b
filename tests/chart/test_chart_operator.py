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

pytestmark = pytest.mark.timeout(240)


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
        wait_until(lambda: deployments() and not deployments() & before, 30, "the overtaken revision to go")
        for kind in ("dt", "dsv"):
            stored = get(control_plane, kind, "-n", namespace)["items"]
            assert all(one["status"]["conditions"] for one in stored)
        leader = get(control_plane, "pod", pods[0]["metadata"]["name"], "-n", home)["metadata"]["labels"]
        assert leader["diffusion.dev/leader"] == "true"
        assert running.metric('diffusion_operator_api_seconds_count{verb="DELETE"}') > 0
        assert "orbidden" not in running.text()
        assert running.end() == 0
