"""Recovery: a node is killed, and the survivor of two workers makes its next optimizer step, against torchrun.

Ours: a DiffusionTraining with two workers, each on a node of its own, under the operator that the chart installs. All
processes of one node are killed with SIGKILL at once, agent and node agent included: in one round that of rank 1, in
the next that of rank 0, where the store of the generation is. The figure is the time from just before the kill is
ordered to the survivor's log line after its next step, both by the wall clock.

The peer: two agents of torchrun, each with one DDP process, the same network and 32 samples a process; one of them is
killed with SIGKILL with all its processes, the plain one in one run and the one that hosts the rendezvous in another.
It runs alone on the machine; ours has a control plane and three node agents beside it.
"""

import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.embedded import HOSTNAME, commands_for, install_operator
from bench.figure import Figure
from bench.torchrun_runs import survivor_recovery_seconds
from diffusion_local.cluster import Cluster
from diffusion_local.demo.cluster_commands import ClusterCommands
from diffusion_local.throwaway import throwaway_cluster

ROUNDS = 3
STEPS_BEFORE = 30
BATCH = 64
NAMESPACE = "bench"
WORKER_NODES = ("node-2", "node-3")
RECOVERY_DEADLINE = 60.0
PLAIN_DEADLINE, HOST_DEADLINE = 120.0, 90.0
LOG_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z \w+ (.*)")
MOMENTS = (("error seen", "is broken"), ("next generation", "with 1 worker"), ("regrouped", "rank 0 of 1"))


@dataclass(frozen=True)
class Recovered:
    """One kill: seconds to the next step, and the seconds at which the survivor logged what lay on the way."""

    seconds: float
    moments: tuple[tuple[str, float], ...]
    lost: str

    def told(self) -> str:
        """The way as words."""
        return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.moments) + f", {self.lost}"


def measure(console: Console) -> list[Figure]:
    """Recovery after the loss of either rank, the median of several kills, each with torchrun's in the same run."""
    with throwaway_cluster(nodes=3) as cluster:
        commands = commands_for(cluster)
        install_operator(commands)
        commands.kubectl("create", "namespace", NAMESPACE)
        kills: dict[int, list[Recovered]] = {1: [], 0: []}
        for number in range(ROUNDS):
            for rank, found in kills.items():
                found.append(_kill_one(cluster, commands, f"run-{number}-{rank}", rank))
                console.print(f"  rank {rank} killed: next step after {found[-1].seconds:.2f} s; {found[-1].told()}")
    with tempfile.TemporaryDirectory(prefix="diffusion-bench-") as folder:
        plain = _torchrun(Path(folder) / "plain", "plain", PLAIN_DEADLINE)
        console.print(f"  torchrun, plain agent killed: {plain}")
        host = _torchrun(Path(folder) / "host", "host", HOST_DEADLINE)
        console.print(f"  torchrun, hosting agent killed: {host}")
    waited = f"waited {HOST_DEADLINE:.0f} s for torchrun"
    return [
        _figure("Node of a plain worker killed", kills[1], "torchrun, plain agent", plain, ""),
        _figure("Node of rank 0 killed", kills[0], "torchrun, agent with the store", host, waited),
    ]


def _figure(what: str, kills: list[Recovered], peer: str, seconds: float | None, remark: str) -> Figure:
    ordered = sorted(kills, key=lambda kill: kill.seconds)
    middle = ordered[len(ordered) // 2]
    spread = f"{len(kills)} kills, {ordered[0].seconds:.2f} to {ordered[-1].seconds:.2f} s; {middle.told()}"
    ours = statistics.median(kill.seconds for kill in kills)
    return Figure(what, ours, "s", peer, seconds, f"{spread}; {remark}".rstrip("; "))


def _torchrun(folder: Path, victim: str, deadline: float) -> float | None:
    folder.mkdir()
    return survivor_recovery_seconds(folder, victim, deadline)


def _kill_one(cluster: Cluster, commands: ClusterCommands, name: str, rank: int) -> Recovered:
    """Train on both nodes, kill the one with the worker of this rank, wait for the other's step, and tidy up."""
    commands.kubectl("apply", "--filename", "-", stdin=json.dumps(_training(name)))
    members = commands.wait_for(f"{name} trains on two workers", lambda: _members(commands, name), 180)
    victim, survivor = members[rank], members[1 - rank]
    killed = time.time()
    cluster.kill_node(victim["node"])
    log = cluster.folder.node(survivor["node"]) / "state/pods" / survivor["uid"] / "logs/trainer/0.log"
    try:
        recovered: Recovered = commands.wait_for(
            "the survivor's next step", lambda: _recovered(log, killed), RECOVERY_DEADLINE, every=0.1
        )
    finally:
        commands.kubectl("delete", "diffusiontraining", name, "--namespace", NAMESPACE, timeout=60)
        cluster.recover_node(victim["node"])
        commands.wait_for("the pods have gone", _no_pods(commands), 120)
    return recovered


def _no_pods(commands: ClusterCommands) -> Callable[[], bool]:
    return lambda: not commands.kubectl("get", "pods", "--namespace", NAMESPACE, "--output", "name").strip()


def _members(commands: ClusterCommands, name: str) -> list[dict[str, Any]] | None:
    """The members by rank, once both have trained together for some steps."""
    status = commands.get("diffusiontraining", name, NAMESPACE).get("status", {})
    trained = status.get("progress", {}).get("step", 0)
    members: list[dict[str, Any]] = status.get("rendezvous", {}).get("members", [])
    return members if len(members) == 2 and trained >= STEPS_BEFORE and status.get("worldSize") == 2 else None


def _recovered(log: Path, killed: float) -> Recovered | None:
    """What the survivor's log says since the kill; None before its next step."""
    moments: list[tuple[str, float]] = []
    for stamp, text in LOG_LINE.findall(log.read_text()):
        seconds = datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp() - killed
        if seconds < 0:
            continue
        moments += [(name, seconds) for name, words in MOMENTS if words in text]
        if "first step after" in text:
            return Recovered(seconds, tuple(moments), text.rpartition(", ")[2])
    return None


def _training(name: str) -> dict[str, Any]:
    """Two workers, each of its own pool and node; no save comes in between."""
    pools = [
        {"name": node, "capacity": "OnDemand", "replicas": 1, "nodeSelector": {HOSTNAME: node}} for node in WORKER_NODES
    ]
    spec = {
        "model": {"denoiser": {"type": "UNet2DModel", "sampleSize": 8, "channels": 1}},
        "dataset": {"uri": "builtin://digits"},
        "training": {"targetSteps": 1_000_000, "globalBatchSize": BATCH},
        "workers": {"min": 1, "max": 2, "resources": {"limits": {"cpu": "1", "memory": "3Gi"}}},
        "pools": pools,
        "checkpoint": {"storage": {"claim": {"size": "1Gi"}}, "interval": {"seconds": 3600}},
    }
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "diffusion.dev/v1alpha1", "kind": "DiffusionTraining", "metadata": metadata, "spec": spec}
