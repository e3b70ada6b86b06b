"""The demo's installation of the operator, after one that was killed, with a real Helm on a real API server."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_fixtures import get, wait_for
from diffusion_local.binaries.find import ensure
from diffusion_local.cluster import Cluster
from diffusion_local.demo.cluster_commands import ClusterCommands, CommandFailed
from diffusion_local.demo.operator_chart import NAMESPACE, RELEASE, SOURCE_ANNOTATION, OperatorChart
from diffusion_local.source_digest import source_digest
from diffusion_local.throwaway import throwaway_cluster
from killed_at_the_end import started

REPOSITORY = Path(__file__).resolve().parents[2]
UPGRADE = ("upgrade", "--install", RELEASE, str(REPOSITORY / "charts" / RELEASE), "--namespace", NAMESPACE)


@pytest.fixture
def bare() -> Iterator[Cluster]:
    """A control plane of the test's own: others have applied the CRDs to the shared one, which Helm does not take."""
    with throwaway_cluster(nodes=0) as cluster:
        yield cluster


def test_an_installation_that_was_killed_is_no_obstacle(bare: Cluster) -> None:
    programs = ensure(["kubectl", "helm"], print)
    commands = ClusterCommands(programs["kubectl"], programs["helm"], bare.kubeconfig)

    def state() -> str:
        listing = json.loads(commands.helm("list", "--all", "--namespace", NAMESPACE, "--output", "json"))
        return str(listing[0]["status"]) if listing else ""

    waiting = [str(programs["helm"]), "--kubeconfig", str(bare.kubeconfig), *UPGRADE, "--create-namespace", "--wait"]
    with started(waiting, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_for(lambda: state() == "pending-install", 60, "an installation at work")
    with pytest.raises(CommandFailed, match="another operation"):
        commands.helm(*UPGRADE)

    OperatorChart(commands, REPOSITORY).install("--wait=false")
    assert state() == "deployed"
    template = get(bare, "deployment", RELEASE, "-n", NAMESPACE)["spec"]["template"]
    sources = source_digest(REPOSITORY / "operator", ("diffusion_contract", "diffusion_operator"))
    assert template["metadata"]["annotations"][SOURCE_ANNOTATION] == sources
