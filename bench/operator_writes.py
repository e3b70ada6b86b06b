"""API writes of the operator: one object of each kind from its creation until it is done, and then both at rest.

The operator runs as a pod from the chart, on a cluster with one node on demand and one spot node. A DiffusionTraining
(examples/quickstart.yaml with fewer steps) goes from creation to Succeeded, then the DiffusionService of the same file
from creation to Ready; a count ends when nothing was written for five seconds. Then both are left alone for
BENCH_REST_SECONDS (60 by default). Counted by verb, from the operator's metrics and the API server's; the renewals of
the operator's own Lease and its questions about callers' tokens are no part of it.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import yaml
from rich.console import Console

from bench.embedded import REPOSITORY, SYSTEM_NAMESPACE, commands_for, install_operator
from bench.figure import Figure
from bench.operator_metrics import count_writes, difference, told, when_quiet
from diffusion_local.demo.cluster_commands import ClusterCommands
from diffusion_local.throwaway import throwaway_cluster

REST_VARIABLE = "BENCH_REST_SECONDS"
STEPS = 60
DEADLINE_SECONDS = 300.0
NAMESPACE = "bench"
NAME = "digits"
METRICS = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/services/http:diffusion-operator-metrics:metrics/proxy/metrics"
DONE: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "DiffusionTraining": ("Succeeded", lambda status: status.get("phase") == "Succeeded"),
    "DiffusionService": ("Ready", lambda status: _condition(status, "Ready") == "True"),
}


def measure(console: Console) -> list[Figure]:
    """Writes by verb until done, for each kind, and at rest."""
    rest = float(os.environ.get(REST_VARIABLE, "60"))
    with throwaway_cluster(nodes=1, spot=1) as cluster:
        commands = commands_for(cluster)
        # Plain metrics: with TLS, the operator would ask the API server about us each time we look.
        install_operator(commands, "--set", "metrics.secure=false")
        commands.kubectl("create", "namespace", NAMESPACE)
        commands.kubectl("apply", "--filename", "-", stdin=json.dumps(_keys()))
        figures = [_until_done(commands, manifest, console) for manifest in _quickstart()]
        console.print(f"  at rest for {rest:.0f} s")
        before = _writes(commands)
        time.sleep(rest)
        written = difference(_writes(commands), before)
    return [*figures, Figure(f"Both at rest for {rest:.0f} s", written.total(), "writes", note=told(written))]


def _writes(commands: ClusterCommands) -> Counter[str]:
    """The operator's writes so far by verb."""
    operator, server = (commands.kubectl("get", "--raw", path) for path in (METRICS, "/metrics"))
    return count_writes(operator, server)


def _until_done(commands: ClusterCommands, manifest: dict[str, Any], console: Console) -> Figure:
    kind, count = manifest["kind"], partial(_writes, commands)
    state, done = DONE[kind]
    before, began = when_quiet(count), time.monotonic()
    commands.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=json.dumps(manifest))
    commands.wait_for(
        f"the {kind} is {state}",
        lambda: done(commands.get(kind.lower(), NAME, NAMESPACE).get("status", {})),
        DEADLINE_SECONDS,
    )
    seconds = time.monotonic() - began
    written = difference(when_quiet(count), before)
    console.print(f"  {kind} {state} after {seconds:.0f} s: {told(written)}")
    return Figure(f"{kind} until {state}", written.total(), "writes", note=f"{told(written)}; in {seconds:.0f} s")


def _condition(status: dict[str, Any], kind: str) -> str:
    found = [condition["status"] for condition in status.get("conditions", []) if condition["type"] == kind]
    return str(found[0]) if found else ""


def _quickstart() -> list[dict[str, Any]]:
    """The objects of the example, the training first and shorter."""
    objects = list(yaml.safe_load_all((REPOSITORY / "examples" / "quickstart.yaml").read_text()))
    for item in objects:
        if item["kind"] == "DiffusionTraining":
            item["spec"]["training"]["targetSteps"] = STEPS
            item["spec"]["checkpoint"]["interval"] = {"steps": STEPS // 2}
    return objects


def _keys() -> dict[str, Any]:
    digest = hashlib.sha256(b"bench").hexdigest()
    metadata = {"name": f"{NAME}-keys", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"me": f"sha256:{digest}"}}
