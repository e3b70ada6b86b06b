"""The chart, as Helm renders it."""

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

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


def render(*values: str) -> list[dict[str, Any]]:
    """All objects of the chart with `--set` values; AssertionError with Helm's words."""
    settings = [part for value in values for part in ("--set", value)]
    done = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.37.0", *settings)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.load_all(done.stdout, yaml.CSafeLoader) if found]


def named(objects: Sequence[dict[str, Any]], kind: str, name: str = RELEASE) -> dict[str, Any]:
    """The one object of this kind and name."""
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found
