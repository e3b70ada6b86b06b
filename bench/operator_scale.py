"""200 custom resources at once: until all their children stand, what the operator takes for it, and its writes.

A real control plane without nodes, so that no pod runs, and the operator as a process of this machine. One object of
each kind comes first: its children are the measure. Then 100 DiffusionTrainings and 100 DiffusionServices are created
over 16 connections; the time runs from the first request until each of them has as many children as the first of its
kind. Scheduler and controller manager make and weigh some 500 pods meanwhile on the same cores. The baseline is a bare
client that creates as many ConfigMaps over 16 connections as the operator has made writes: what the API server allows.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench.embedded import REPOSITORY, commands_for, embedded
from bench.figure import Figure
from bench.operator_metrics import count_writes, difference, told
from bench.operator_process import OperatorProcess, running_operator
from diffusion_local.api import ApiClient, Store
from diffusion_local.cluster import Cluster
from diffusion_local.demo.cluster_commands import ClusterCommands

OF_EACH_KIND = 100
CONNECTIONS = 16
DEADLINE_SECONDS = 600.0
QUIET_SECONDS = 5.0
NAMESPACE = "bench"
GROUP = "/apis/diffusion.dev/v1alpha1"
CHILDREN = (
    "/api/v1/{}/configmaps",
    "/api/v1/{}/persistentvolumeclaims",
    "/api/v1/{}/services",
    "/apis/apps/v1/{}/deployments",
    "/apis/batch/v1/{}/jobs",
    "/apis/policy/v1/{}/poddisruptionbudgets",
)
IN_NAMESPACE = f"namespaces/{NAMESPACE}"
MEBIBYTE = 2**20
Object = dict[str, Any]


@dataclass(frozen=True)
class Crowd:
    """What the crowd took: seconds, the operator's CPU seconds and peak memory (bytes), its writes and their number."""

    seconds: float
    cpu_seconds: float
    memory: int
    calls: Counter[str]
    children: int
    bare_seconds: float


def measure(console: Console) -> list[Figure]:
    """Time, CPU, memory and writes for a crowd of custom resources."""
    with embedded(nodes=0) as cluster:
        commands = commands_for(cluster)
        commands.kubectl("create", "namespace", NAMESPACE)
        commands.kubectl("apply", "--server-side", "--filename", str(REPOSITORY / "crds"))
        commands.kubectl("wait", "--for=condition=Established", "crd", "--all")
        with running_operator(cluster, NAMESPACE) as operator:
            crowd = asyncio.run(_measure(cluster, commands, operator, console))
    number = 2 * OF_EACH_KIND
    made = crowd.calls.total()
    return [
        Figure(
            f"All {crowd.children} children of {number} objects stand",
            crowd.seconds,
            "s",
            "bare client, as many writes",
            crowd.bare_seconds,
            f"{number / crowd.seconds:.1f} objects/s, {made / crowd.seconds:.0f} writes/s",
        ),
        Figure("CPU of the operator", crowd.cpu_seconds, "s", note=f"{crowd.cpu_seconds / number * 1000:.0f} ms each"),
        Figure("Peak memory of the operator", crowd.memory / MEBIBYTE, "MiB", note="resident"),
        Figure("API writes", made / number, "for each object", note=f"{told(crowd.calls)}, its Lease apart"),
    ]


async def _measure(cluster: Cluster, commands: ClusterCommands, operator: OperatorProcess, console: Console) -> Crowd:
    admin = cluster.client_certificate("bench", ["system:masters"]).files
    count = Count(commands, operator)
    async with AsyncExitStack() as closing:
        client = ApiClient(cluster.server, str(cluster.authority), admin)
        closing.push_async_callback(client.close)
        await _all(client, [("/api/v1", "persistentvolumeclaims", _claim()), ("/api/v1", "secrets", _keys())])
        family = await closing.enter_async_context(asyncio.TaskGroup())
        children = Children(client)
        followers = [family.create_task(store.run()) for store in children.stores]
        closing.callback(lambda: [follower.cancel() for follower in followers])
        first = await _all(client, [_training("first"), _service("first")])
        before = await count.when_quiet()
        per_object = {item["kind"]: children.of(item) for item in first}
        console.print(f"  children: {', '.join(f'{kind} {count}' for kind, count in per_object.items())}")
        cpu = operator.cpu_seconds()
        began = time.monotonic()
        names = [f"run-{number}" for number in range(OF_EACH_KIND)]
        crowd = await _all(client, [make(name) for name in names for make in (_training, _service)])
        await children.wait(lambda: all(children.of(item) >= per_object[item["kind"]] for item in crowd))
        seconds, cpu_seconds = time.monotonic() - began, operator.cpu_seconds() - cpu
        made = difference(await count.when_quiet(), before)
        console.print(f"  {seconds:.1f} s, {cpu_seconds:.1f} s of CPU; settled with {told(made)}")
        bare = await _bare_seconds(client, made.total())
        return Crowd(seconds, cpu_seconds, operator.peak_memory(), made, sum(map(children.of, crowd)), bare)


class Children:
    """All objects of the kinds that children have, kept by watches, counted by their owner."""

    def __init__(self, client: ApiClient) -> None:
        self._changed = asyncio.Event()
        self.stores = [Store(client, path.format(IN_NAMESPACE), self._changed.set) for path in CHILDREN]

    def of(self, owner: Object) -> int:
        """How many children of this object there are now."""
        return self._by_owner()[owner["metadata"]["uid"]]

    def _by_owner(self) -> Counter[str]:
        return Counter(
            reference["uid"]
            for store in self.stores
            for item in store.objects.values()
            for reference in item["metadata"].get("ownerReferences", ())
        )

    async def wait(self, enough: Callable[[], bool]) -> None:
        """Return when a change has made `enough` true; TimeoutError after the deadline."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not enough():
                self._changed.clear()
                await self._changed.wait()


async def _all(client: ApiClient, wanted: Sequence[tuple[str, str, Object]]) -> list[Object]:
    """Create objects of the namespace, some at a time; returns what the server made of them."""
    free = asyncio.Semaphore(CONNECTIONS)

    async def create(group: str, kinds: str, manifest: Object) -> Object:
        async with free:
            return await client.request("POST", f"{group}/{IN_NAMESPACE}/{kinds}", manifest)

    return await asyncio.gather(*(create(*order) for order in wanted))


async def _bare_seconds(client: ApiClient, count: int) -> float:
    """Seconds in which the API server takes as many small objects from a client that does nothing else."""
    began = time.monotonic()
    await _all(client, [("/api/v1", "configmaps", _config_map(f"bare-{number}")) for number in range(count)])
    return time.monotonic() - began


@dataclass(frozen=True)
class Count:
    """The operator's writes, counted."""

    commands: ClusterCommands
    operator: OperatorProcess

    async def when_quiet(self) -> Counter[str]:
        """Return the writes so far by verb, once there has been none for some seconds."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            seen, since = await asyncio.to_thread(self._now), time.monotonic()
            while time.monotonic() - since < QUIET_SECONDS:
                await asyncio.sleep(1)
                if (now := await asyncio.to_thread(self._now)) != seen:
                    seen, since = now, time.monotonic()
        return seen

    def _now(self) -> Counter[str]:
        return count_writes(self.operator.metrics(), self.commands.kubectl("get", "--raw", "/metrics"))


def _object(api_version: str, kind: str, name: str, **parts: Any) -> Object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **parts}


def _config_map(name: str) -> Object:
    return _object("v1", "ConfigMap", name, data={"key": "value " * 40})


def _claim() -> Object:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return _object("v1", "PersistentVolumeClaim", "models", spec=spec)


def _keys() -> Object:
    return _object("v1", "Secret", "keys", stringData={"me": f"sha256:{'0' * 64}"})


def _training(name: str) -> tuple[str, str, Object]:
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
    return GROUP, "diffusiontrainings", _object("diffusion.dev/v1alpha1", "DiffusionTraining", name, spec=spec)


def _service(name: str) -> tuple[str, str, Object]:
    """One engine behind a router, of a model version on a claim that stands."""
    spec = {"model": {"ref": f"pvc://models/digits@sha256:{'d' * 64}"}, "auth": {"keysRef": {"name": "keys"}}}
    return GROUP, "diffusionservices", _object("diffusion.dev/v1alpha1", "DiffusionService", name, spec=spec)
