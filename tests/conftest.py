"""Fixtures that more than one room's tests use; how clusters are made stands in cluster_fixtures.py."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from cluster_fixtures import (
    Kubernetes,
    ended_afterwards,
    fresh_namespace,
    given_cluster,
    is_portable,
)
from diffusion_local.cluster import Cluster
from diffusion_local.throwaway import throwaway_cluster

# A busy machine is not a failing property: examples have no deadline of their own, the tests' time limit stands.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make test` tries the same examples on every machine, so that a change is judged by what it changes; `make crash`
# searches among new ones, each time.
settings.register_profile("repeatable", settings.get_profile("search"), derandomize=True)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Hear Ctrl-C, and let what is started hear it, also where a script has begun us in its background.

    SIGTERM is heard as Ctrl-C is, so that clusters end and their folders go before we do; once, because make sends its
    own where somebody ends the whole group of processes.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _hear_sigterm()


def pytest_runtest_setup() -> None:
    """Hear SIGTERM again where asyncio has given it back, after a test of what handles it."""
    _hear_sigterm()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Likewise for the end of clusters, which may begin here."""
    _hear_sigterm()


def _hear_sigterm() -> None:
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise KeyboardInterrupt


def pytest_report_header() -> list[str]:
    """Say loudly on whose cluster the tests are going to work."""
    given = given_cluster()
    return [f"CLUSTER UNDER TEST: {given.introduce()} ({given.kubeconfig}); portable tests only"] if given else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On somebody else's cluster, leave out what needs one of our own."""
    if given_cluster() is None:
        return
    portable = [item for item in items if is_portable(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=[item for item in items if item not in portable])
    items[:] = portable


@pytest.fixture(scope="session", autouse=True)
def _main_event_loop() -> Iterator[None]:
    """Have a current event loop: pytest-asyncio would make one for a plain test, and never close it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """A real etcd, API server, controller manager and scheduler without nodes, shared by the whole test run."""
    with throwaway_cluster(nodes=0) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubernetes]:
    """A cluster with one on-demand and one spot node, or the one that KUBECONFIG_UNDER_TEST names."""
    if given := given_cluster():
        yield given
        return
    with throwaway_cluster(nodes=1, spot=1) as embedded:
        yield embedded


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A fresh namespace on the control plane without nodes."""
    with fresh_namespace(control_plane) as name:
        yield name


@pytest.fixture
def cluster_namespace(cluster: Kubernetes) -> Iterator[str]:
    """A fresh namespace on the cluster with nodes."""
    with fresh_namespace(cluster) as name:
        yield name


@pytest.fixture
def embedded(cluster: Kubernetes) -> Cluster:
    """The cluster with nodes, for tests that take nodes away or use its command; they do not run on a given one."""
    assert isinstance(cluster, Cluster)
    return cluster


@pytest.fixture
def spot(embedded: Cluster) -> Iterator[str]:
    """A spot node of the test's own."""
    with ended_afterwards(embedded, embedded.add_node(spot=True)) as name:
        yield name
