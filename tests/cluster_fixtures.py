"""Clusters for tests: a control plane alone, a cluster with nodes, or a cluster of the user's by kubeconfig.

Set KUBECONFIG_UNDER_TEST to a kubeconfig (`make e2e KUBECONFIG=FILE` does), and the tests of the fixture `cluster` run
on that cluster, kind or a real one, in place of an embedded one. All others are left out then: they need a control
plane of their own, or nodes that may be killed. Claims are made for ReadWriteOnce there, as kind's class has it, unless
ACCESS_MODE_UNDER_TEST names another mode; several nodes need ReadWriteMany.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from deadline import wait_until
from diffusion_local.binaries.find import ensure
from diffusion_local.cluster import Cluster

KUBECONFIG_VARIABLE, ACCESS_MODE_VARIABLE = "KUBECONFIG_UNDER_TEST", "ACCESS_MODE_UNDER_TEST"
LOOK_SECONDS = 0.3
OWN_PROGRAMS = Path(sys.executable).parent
"""Where kubectl finds its plugin."""
T = TypeVar("T")


class Kubernetes(Protocol):
    """What tests need of any cluster."""

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""

    def kubectl(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run kubectl; the caller judges its exit code."""


class GivenCluster:
    """A cluster that somebody else runs, by its kubeconfig; pytest.UsageError where there is no such file."""

    def __init__(self, kubeconfig: Path) -> None:
        if not kubeconfig.is_file():
            raise pytest.UsageError(f"there is no kubeconfig {kubeconfig}")
        self.kubeconfig = kubeconfig
        self._kubectl = shutil.which("kubectl") or str(ensure(["kubectl"], print)["kubectl"])

    def kubectl(self, *args: str, input: str | None = None) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Run kubectl on it."""
        return subprocess.run(
            [self._kubectl, *args],
            input=input,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": f"{OWN_PROGRAMS}:{os.environ['PATH']}"},
        )

    def introduce(self) -> str:
        """Which cluster this is, for people who have several."""
        where = "{.current-context} at {.clusters[0].cluster.server}"
        return self.kubectl("config", "view", "--minify", "--output", f"jsonpath={where}").stdout


def given_cluster() -> GivenCluster | None:
    """The cluster that KUBECONFIG_UNDER_TEST names."""
    given = os.environ.get(KUBECONFIG_VARIABLE)
    return GivenCluster(Path(given)) if given else None


def access_mode() -> str:
    """How claims that several pods share can be had on the cluster under test."""
    usual = "ReadWriteOnce" if os.environ.get(KUBECONFIG_VARIABLE) else "ReadWriteMany"
    return os.environ.get(ACCESS_MODE_VARIABLE, usual)


def is_portable(fixtures: Iterable[str]) -> bool:
    """Whether a test that uses these fixtures can run on somebody else's cluster."""
    return "cluster" in fixtures and not {"control_plane", "embedded"} & set(fixtures)


@contextmanager
def fresh_namespace(kubernetes: Kubernetes) -> Iterator[str]:
    """A namespace with its default ServiceAccount; removed afterwards without waiting for its end."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    created = kubernetes.kubectl("create", "namespace", name)
    assert created.returncode == 0, created.stderr
    account = ("get", "serviceaccount", "default", "-n", name)
    wait_for(lambda: kubernetes.kubectl(*account).returncode == 0, 30, f"the default ServiceAccount of {name}")
    try:
        yield name
    finally:
        kubernetes.kubectl("delete", "namespace", name, "--wait=false")


@contextmanager
def ended_afterwards(cluster: Cluster, node: str) -> Iterator[str]:
    """A node of a test's own, by its name; in the end neither its processes nor its Node object are left."""
    try:
        yield node
    finally:
        if cluster.order("status")["nodes"][node]:
            cluster.kill_node(node)
        cluster.kubectl("delete", "node", node, "--ignore-not-found", "--wait=false")


def wait_for(predicate: Callable[[], T], seconds: float, what: str) -> T:
    """`wait_until` for predicates that ask by kubectl: each look is a process, so they are fewer."""
    return wait_until(predicate, seconds, what, every=LOOK_SECONDS)


def get(kubernetes: Kubernetes, *args: str) -> dict[str, Any]:
    """Return what `kubectl get ARGS -o json` shows; AssertionError with kubectl's words when it fails."""
    done = kubernetes.kubectl("get", *args, "-o", "json")
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def apply(kubernetes: Kubernetes, *objects: dict[str, Any]) -> None:
    """Apply `objects`; AssertionError with kubectl's words when one is refused."""
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    done = kubernetes.kubectl("apply", "-f", "-", input=json.dumps(listed))
    assert done.returncode == 0, done.stderr
