"""The operator, installed from the chart by Helm, and the one line that the end-to-end tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chart_rendering import CHART, NAMESPACE, RELEASE, helm
from cluster_fixtures import Kubernetes
from diffusion_local.cluster import Cluster
from line_objects import ON_SPOT_NODES, TWO_WORKERS, claim, small_service, small_training, two_pools
from line_story import MODEL, Line, line_in_a_namespace
from trainer_workers import MakeRun, Run, run_document
from worker_nursery import Nursery


@pytest.fixture(scope="session")
def operator(cluster: Kubernetes) -> Iterator[Kubernetes]:
    """The cluster with the operator on it; on the embedded one it runs on the node that no test takes away."""
    place = r"nodeSelector.karpenter\.sh/capacity-type=on-demand"
    more = ("--set", place) if isinstance(cluster, Cluster) else ()
    where = (RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace", "--take-ownership")
    wait = ("--wait", "--timeout", "110s")
    done = helm("upgrade", "--install", *where, *wait, *more, kubeconfig=cluster.kubeconfig)
    assert done.returncode == 0, done.stderr + cluster.kubectl("logs", "-n", NAMESPACE, f"deploy/{RELEASE}").stdout
    yield cluster
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", kubeconfig=cluster.kubeconfig)


@pytest.fixture(scope="session")
def line(operator: Kubernetes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """A namespace with nothing in it but API keys."""
    folder: Path = tmp_path_factory.mktemp("line")
    with line_in_a_namespace(operator, folder) as made:
        yield made


@pytest.fixture(scope="session")
def story(line: Line) -> Line:
    """The line with a training on two workers, and a service that waits for its model."""
    publish = {"claim": claim(), "card": {"license": "Apache-2.0"}}
    pools = two_pools(**ON_SPOT_NODES if isinstance(line.kubernetes, Cluster) else {})
    changes = {"spec__workers": TWO_WORKERS, "spec__pools": pools, "spec__publish": publish}
    line.apply(MODEL, small_training(**changes))
    line.apply(MODEL, small_service(MODEL))
    return line


@pytest.fixture(scope="session")
def served(story: Line) -> Line:
    """The line at its end: the service draws, and a visitor asks it for an image twice a second from now on."""
    story.wait(MODEL, lambda status: status.get("phase") == "Succeeded", 300, "the model is published")
    story.wait_ready(MODEL)
    story.start_visitor(MODEL)
    return story


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What forks workers, with the libraries imported once."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def make_run(nursery: Nursery, tmp_path: Path) -> Iterator[MakeRun]:
    """Runs of real workers, ended with the test; their logs are shown where it fails."""
    runs: list[Run] = []

    def make(minimum: int = 1, **changes: object) -> Run:
        folder = tmp_path / f"run-{len(runs)}"
        folder.mkdir()
        runs.append(Run(nursery, folder, run_document(**changes), minimum))
        return runs[-1]

    yield make
    for run in runs:
        run.close()
        print(run.logs())
