"""What an upgrade changes and what an uninstall leaves, on a real API server."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chart_rendering import CHART, RELEASE, helm, installed_chart
from cluster_fixtures import apply, get
from custom_resource_tables import install_crds, training
from deadline import wait_until
from diffusion_local.cluster import Cluster
from diffusion_operator.loop.settings import CERTIFICATE_SECRET, LEASE_NAME
from operator_process import operator

CRD = "diffusiontrainings.diffusion.dev"


@pytest.fixture
def home(control_plane: Cluster) -> Iterator[str]:
    install_crds(control_plane)
    with installed_chart(control_plane) as namespace:
        yield namespace
    install_crds(control_plane)


def names(cluster: Cluster, kind: str, namespace: str) -> set[str]:
    return {one["metadata"]["name"] for one in get(cluster, kind, "-n", namespace)["items"]}


def secret(cluster: Cluster, home: str) -> dict[str, str]:
    found: dict[str, str] = get(cluster, "secret", CERTIFICATE_SECRET, "-n", home).get("data") or {}
    return found


def upgraded(cluster: Cluster, home: str, chart: Path, *options: str) -> None:
    where = ("upgrade", RELEASE, str(chart), "--namespace", home, *options)
    done = helm(*where, kubeconfig=cluster.kubeconfig)
    assert done.returncode == 0, done.stderr


def changed_chart(folder: Path) -> Path:
    """The chart with one word changed in a CRD."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    (path,) = (chart / "files" / "crds").glob(f"*{CRD}*")
    text = path.read_text()
    assert "shortNames: [dt]" in text
    path.write_text(text.replace("shortNames: [dt]", "shortNames: [dt, dtrain]"))
    return chart


def test_an_upgrade_changes_a_crd_and_leaves_what_the_operator_keeps(
    control_plane: Cluster, home: str, tmp_path: Path
) -> None:
    with operator(control_plane, home=home) as running:
        wait_until(running.leads, 40, "leadership")
        kept = wait_until(lambda: secret(control_plane, home), 10, "certificates")
        upgraded(control_plane, home, changed_chart(tmp_path))
        assert secret(control_plane, home) == kept
        assert get(control_plane, "lease", LEASE_NAME, "-n", home)["spec"]["holderIdentity"]
    short = get(control_plane, "crd", CRD)["spec"]["names"]["shortNames"]
    assert short == ["dt", "dtrain"]


def test_an_uninstall_leaves_the_crds_and_what_users_made_and_nothing_of_its_own(
    control_plane: Cluster, home: str, namespace: str
) -> None:
    apply(control_plane, _placed(training(), "run", namespace))
    with operator(control_plane, home=home) as running:
        wait_until(running.leads, 40, "leadership")
        wait_until(lambda: names(control_plane, "jobs", namespace), 20, "children")
        wait_until(lambda: secret(control_plane, home), 10, "certificates")
    done = helm("uninstall", RELEASE, "--namespace", home, kubeconfig=control_plane.kubeconfig)
    assert done.returncode == 0, done.stderr
    assert get(control_plane, "crd", CRD)["spec"]["names"]["kind"] == "DiffusionTraining"
    assert get(control_plane, "dt", "run", "-n", namespace)["metadata"]["name"] == "run"
    assert names(control_plane, "jobs", namespace)
    left = {
        f"{kind} {name}"
        for kind in ("leases", "secrets", "deployments", "services", "roles", "rolebindings", "networkpolicies")
        for name in names(control_plane, kind, home)
    }
    assert left == set()


def test_crds_from_elsewhere_are_refused_with_the_words_of_the_readme(control_plane: Cluster, namespace: str) -> None:
    control_plane.kubectl("delete", "crd", "--all", "--timeout=30s")
    install_crds(control_plane)
    where = ("install", RELEASE, str(CHART), "--namespace", namespace)
    refused = helm(*where, kubeconfig=control_plane.kubeconfig)
    assert refused.returncode != 0
    text = (CHART / "README.md").read_text()
    assert "invalid ownership metadata" in refused.stderr
    assert "invalid ownership metadata" in text
    for remedy in (("--take-ownership",), ("--set", "crds.install=false")):
        assert " ".join(remedy) in text
        done = helm(*where, *remedy, kubeconfig=control_plane.kubeconfig)
        assert done.returncode == 0, done.stderr
        helm("uninstall", RELEASE, "--namespace", namespace, kubeconfig=control_plane.kubeconfig)


def _placed(raw: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    return {**raw, "metadata": {"name": name, "namespace": namespace}}
