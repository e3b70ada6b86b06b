"""200 custom resources at once: until all their children stand, what the operator takes for it, and its writes.

A real control plane without nodes, so that no pod runs, and the operator as a process of this machine. One object of
each kind comes first: its children are the measure. Then 100 DiffusionTrainings and 100 DiffusionServices are created
over 16 connections; the time runs from the first request until each of them has as many children as the first of its
kind. Scheduler and controller manager make and weigh some 500 pods meanwhile on the same cores. Two bare clients stand
beside it, on a second control plane. The first applies the same children from a list (operator_peer.py), so that the
controllers have the same work. The other then creates as many ConfigMaps, to which no controller reacts, as the
operator has made writes: what the API server alone allows.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench import operator_peer
from bench.embedded import REPOSITORY, api_client, commands_for
from bench.figure import Figure
from bench.operator_children import Children, Object
from bench.operator_metrics import count_writes, difference, told, when_quiet
from bench.operator_process import OperatorProcess, running_operator
from diffusion_local.cluster import Cluster
from diffusion_local.demo.cluster_commands import ClusterCommands
from diffusion_local.throwaway import throwaway_cluster
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import (
    CLAIM,
    CONFIG_MAP,
    MODEL_SERVICE,
    SECRET,
    TRAINING,
    Resource,
    resource_of,
)
from diffusion_operator.observe.snapshot import Reference

OF_EACH_KIND = 100
CONNECTIONS = 16
NAMESPACE = "bench"
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Crowd:
    """What the crowd took: seconds, the operator's CPU seconds and peak memory (bytes), its writes, the objects."""

    seconds: float
    cpu_seconds: float
    memory: int
    calls: Counter[str]
    children: int
    custom_resources: Sequence[Object]


@dataclass(frozen=True)
class Peers:
    """Seconds of the two bare clients: for the same children, and for as many small objects as there were writes."""

    same_children: float
    small_objects: float


def measure(console: Console) -> list[Figure]:
    """Time, CPU, memory and writes for a crowd of custom resources."""
    with throwaway_cluster(nodes=0) as cluster:
        commands = commands_for(cluster)
        commands.kubectl("create", "namespace", NAMESPACE)
        commands.kubectl("apply", "--server-side", "--filename", str(REPOSITORY / "crds"))
        commands.kubectl("wait", "--for=condition=Established", "crd", "--all")
        with running_operator(cluster, NAMESPACE) as operator:
            crowd = asyncio.run(_measure(cluster, Count(commands, operator), console))
    with throwaway_cluster(nodes=0) as cluster:
        commands_for(cluster).kubectl("create", "namespace", NAMESPACE)
        peers = asyncio.run(_measure_peers(cluster, crowd))
    console.print(f"  bare clients: {peers.same_children:.1f} s and {peers.small_objects:.1f} s")
    return _figures(crowd, peers)


def _figures(crowd: Crowd, peers: Peers) -> list[Figure]:
    number, made = len(crowd.custom_resources), crowd.calls.total()
    pace = f"{number / crowd.seconds:.1f} objects/s, {made / crowd.seconds:.0f} writes/s"
    what = f"All {crowd.children} children of {number} objects stand"
    return [
        Figure(what, crowd.seconds, "s", "bare client, the same children", peers.same_children, pace),
        Figure(
            what, crowd.seconds, "s", f"bare client, {made} ConfigMaps", peers.small_objects, "no controller reacts"
        ),
        Figure("CPU of the operator", crowd.cpu_seconds, "s", note=f"{crowd.cpu_seconds / number * 1000:.0f} ms each"),
        Figure("Peak memory of the operator", crowd.memory / MEBIBYTE, "MiB", note="resident"),
        Figure("API writes", made / number, "for each object", note=f"{told(crowd.calls)}, its Lease apart"),
    ]


async def _measure(cluster: Cluster, count: "Count", console: Console) -> Crowd:
    async with api_client(cluster.kubeconfig) as client, Children().watched(client, NAMESPACE) as children:
        await _all(client, [_claim(), _keys()])
        first = await _all(client, [_training("first"), _service("first")])
        before = await count.when_quiet()
        per_object = {item["kind"]: children.of[item["metadata"]["uid"]] for item in first}
        console.print(f"  children: {', '.join(f'{kind} {count}' for kind, count in per_object.items())}")
        cpu = count.operator.cpu_seconds()
        began = time.monotonic()
        names = [f"run-{number}" for number in range(OF_EACH_KIND)]
        crowd = await _all(client, [make(name) for name in names for make in (_training, _service)])
        wanted = {item["metadata"]["uid"]: per_object[item["kind"]] for item in crowd}
        await children.until(wanted)
        seconds, cpu_seconds = time.monotonic() - began, count.operator.cpu_seconds() - cpu
        made = difference(await count.when_quiet(), before)
        console.print(f"  {seconds:.1f} s, {cpu_seconds:.1f} s of CPU; settled with {told(made)}")
        return Crowd(seconds, cpu_seconds, count.operator.peak_memory(), made, sum(wanted.values()), crowd)


async def _measure_peers(cluster: Cluster, crowd: Crowd) -> Peers:
    async with api_client(cluster.kubeconfig) as client, Children().watched(client, NAMESPACE) as children:
        claim, keys = await _all(client, [_claim(), _keys()])
        named = {"PersistentVolumeClaim": claim, "Secret": {**keys, "data": {"me": ""}}}
        referenced = {
            Reference("v1", kind, NAMESPACE, item["metadata"]["name"]): {**item, "kind": kind}
            for kind, item in named.items()
        }
        families = [operator_peer.children_of(item, referenced) for item in crowd.custom_resources]
        number = sum(map(len, families))
        if number != crowd.children:
            raise RuntimeError(
                f"the peer makes {number} children, and the operator {crowd.children}: not the same work"
            )
        # First, since the operator's control plane had nothing else in it either.
        same_children = await operator_peer.seconds_for(client, cluster.kubeconfig, children, families, NAMESPACE)
        small = [_config_map(f"bare-{number}") for number in range(crowd.calls.total())]
        began = time.monotonic()
        await _all(client, small)
        return Peers(same_children, time.monotonic() - began)


async def _all(client: ApiClient, wanted: Sequence[Object]) -> list[Object]:
    """Create objects of the namespace, some at a time; returns what the server made of them."""
    free = asyncio.Semaphore(CONNECTIONS)

    async def create(manifest: Object) -> Object:
        async with free:
            return dict(await client.create(resource_of(manifest["apiVersion"], manifest["kind"]), manifest))

    return await asyncio.gather(*(create(manifest) for manifest in wanted))


@dataclass(frozen=True)
class Count:
    """The operator's writes, counted."""

    commands: ClusterCommands
    operator: OperatorProcess

    async def when_quiet(self) -> Counter[str]:
        """The writes so far by verb, once there has been none for some seconds."""
        return await asyncio.to_thread(when_quiet, self._now)

    def _now(self) -> Counter[str]:
        return count_writes(self.operator.metrics(), self.commands.kubectl("get", "--raw", "/metrics"))


def _object(resource: Resource, name: str, **parts: Any) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **parts}


def _config_map(name: str) -> Object:
    return _object(CONFIG_MAP, name, data={"key": "value " * 40})


def _claim() -> Object:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return _object(CLAIM, "models", spec=spec)


def _keys() -> Object:
    return _object(SECRET, "keys", stringData={"me": f"sha256:{'0' * 64}"})


def _training(name: str) -> Object:
    """One worker on demand and one on spot, with a claim for checkpoints and one for the model."""
    spec = {
        "dataset": {"uri": "builtin://digits"},
        "training": {"targetSteps": 100},
        "workers": {"min": 1, "max": 2},
        "pools": [
            {"name": "base", "capacity": "OnDemand", "replicas": 1},
            {"name": "spot", "capacity": "Spot", "max": 1},
        ],
        "checkpoint": {"storage": {"claim": {"size": "1Gi"}}},
        "publish": {"claim": {"size": "1Gi"}},
    }
    return _object(TRAINING, name, spec=spec)


def _service(name: str) -> Object:
    """One engine behind a router, of a model version on a claim that stands."""
    spec = {"model": {"ref": f"pvc://models/digits@sha256:{'d' * 64}"}, "auth": {"keysRef": {"name": "keys"}}}
    return _object(MODEL_SERVICE, name, spec=spec)
