"""Fixtures that more than one room's tests use; how clusters are made stands in cluster_fixtures.py."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cluster_fixtures import (
    KUBECONFIG_VARIABLE,
    GivenCluster,
    Kubernetes,
    embedded_cluster,
    fresh_namespace,
)
from diffusion_local.cluster import Cluster

# A busy machine is not a failing property: examples have no deadline of their own, the tests' time limit stands.
settings.register_profile("busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy-machine")


@pytest.fixture(scope="session", autouse=True)
def _main_event_loop() -> Iterator[None]:
    """Have a current event loop: pytest's asyncio plugins would each make one for a plain test, and never close it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """A real etcd, API server, controller manager and scheduler without nodes, shared by the whole test run."""
    with embedded_cluster(nodes=0, spot=0) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubernetes]:
    """A cluster with one on-demand and one spot node, or the one that KUBECONFIG_UNDER_TEST names."""
    if given := os.environ.get(KUBECONFIG_VARIABLE):
        yield GivenCluster(Path(given))
        return
    with embedded_cluster(nodes=1, spot=1) as embedded:
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
    """The cluster with nodes, for tests that take nodes away or use its command; a given cluster is left alone."""
    if not isinstance(cluster, Cluster):
        pytest.skip("the nodes of a given cluster are not ours to take away")
    return cluster
