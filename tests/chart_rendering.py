"""The chart, as Helm renders it."""

import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cluster_fixtures import Kubernetes
from diffusion_local.binaries.find import ensure

CHART = Path(__file__).parents[1] / "charts" / "diffusion-operator"
RELEASE = "diffusion-operator"
NAMESPACE = "diffusion-system"


@cache
def helm_program() -> Path:
    """Helm, found, or built once."""
    return Path(ensure(["helm"], print)["helm"])


def helm(*args: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm; the caller judges its exit code."""
    more = ("--kubeconfig", str(kubeconfig)) if kubeconfig else ()
    return subprocess.run([str(helm_program()), *args, *more], capture_output=True, text=True, check=False, timeout=120)


def render(
    *values: str, release: str = RELEASE, namespace: str = NAMESPACE, flag: str = "--set"
) -> list[dict[str, Any]]:
    """All objects of the chart with values by `flag`; AssertionError with Helm's words."""
    settings = [part for value in values for part in (flag, value)]
    done = helm("template", release, str(CHART), "--namespace", namespace, *settings)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.load_all(done.stdout, yaml.CSafeLoader) if found]


def named(objects: Sequence[dict[str, Any]], kind: str, name: str = RELEASE) -> dict[str, Any]:
    """The one object of this kind and name."""
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


@contextmanager
def installed_chart(cluster: Kubernetes, *values: str) -> Iterator[str]:
    """The chart with two replicas and `--set` values in a fresh namespace of the Pod Security level `restricted`.

    CRDs that other tests applied by hand become the release's.
    """
    namespace = f"chart-{uuid.uuid4().hex[:8]}"
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    for args in (("create", "namespace", namespace), ("label", "namespace", namespace, restricted)):
        done = cluster.kubectl(*args)
        assert done.returncode == 0, done.stderr
    where = ("--namespace", namespace, "--take-ownership")
    settings = [part for value in ("replicas=2", *values) for part in ("--set", value)]
    done = helm("upgrade", "--install", RELEASE, str(CHART), *where, *settings, kubeconfig=cluster.kubeconfig)
    assert done.returncode == 0, done.stderr
    try:
        yield namespace
    finally:
        helm("uninstall", RELEASE, "--namespace", namespace, kubeconfig=cluster.kubeconfig)
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
