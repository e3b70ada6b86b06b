"""Raw objects for tests of the operator's pure rooms: a few words make a whole custom resource, pod or node."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from diffusion_contract.agent_messages import TrainerReport
from diffusion_contract.names import API_VERSION, ATTEMPT_LABEL, POOL_LABEL
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.operator_facts import OperatorFacts
from diffusion_operator.observe.snapshot import Raw, Snapshot
from diffusion_operator.observe.training_world import TrainingWorld, observe_training

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OPERATOR = OperatorFacts(
    namespace="system",
    agent_url="https://agents.system.svc:8443",
    agent_ca="PEM",
    trainer_image="trainer:1",
    server_image="server:1",
    router_image="router:1",
)
MINIMAL: Mapping[str, Any] = {
    "dataset": {"uri": "builtin://digits"},
    "training": {"targetSteps": 20, "globalBatchSize": 64},
    "checkpoint": {"storage": {"claim": {"size": "1Gi"}}, "interval": {"steps": 5}},
}
TWO_POOLS: Mapping[str, Any] = {
    **MINIMAL,
    "workers": {"min": 1, "max": 2},
    "pools": [
        {"name": "base", "capacity": "OnDemand", "replicas": 1},
        {"name": "spot", "capacity": "Spot", "max": 1},
    ],
}


def spec_with(base: Mapping[str, Any] = MINIMAL, **changes: Any) -> dict[str, Any]:
    """A copy of `base` in which `changes` (`workers__max=3` for nested keys) are set."""
    spec = copy.deepcopy(dict(base))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return spec


def custom_resource(spec: Mapping[str, Any], status: Mapping[str, Any] | None = None, generation: int = 1) -> Raw:
    """A DiffusionTraining called `digits` in namespace `team`."""
    metadata = {"name": "digits", "namespace": "team", "uid": "cr-uid", "generation": generation}
    raw: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "DiffusionTraining", "metadata": metadata, "spec": spec}
    return raw | ({"status": status} if status else {})


def pod(
    name: str, *, attempt: int = 1, pool: str = "base", node: str = "n1", index: int = 0, **status: Any
) -> dict[str, Any]:
    """A running worker pod whose UID is its name; `exit_code`, `ended` (why), `deleting` and more change that."""
    exit_code, message = status.pop("exit_code", None), status.pop("message", "")
    deleting, disruption = status.pop("deleting", False), status.pop("disruption", "")
    waiting, reason = status.pop("waiting", None), status.pop("ended", "Error")
    raw: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "uid": name,
            "labels": {
                POOL_LABEL: pool,
                ATTEMPT_LABEL: str(attempt),
                "batch.kubernetes.io/job-name": f"job-{pool}-{attempt}",
                "batch.kubernetes.io/job-completion-index": str(index),
            },
        },
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIP": f"10.0.0.{sum(name.encode()) % 250}", **status},
    }
    if deleting:
        raw["metadata"] |= {"deletionTimestamp": "2026-01-01T11:59:00Z", "deletionGracePeriodSeconds": 15}
    if exit_code is not None:
        ended = {"exitCode": exit_code, "finishedAt": "2026-01-01T11:59:30Z", "message": message, "reason": reason}
        raw["status"]["phase"] = "Succeeded" if exit_code == 0 else "Failed"
        raw["status"]["containerStatuses"] = [{"name": "trainer", "state": {"terminated": ended}}]
    if waiting:
        raw["status"]["phase"] = "Pending"
        raw["status"]["containerStatuses"] = [{"name": "trainer", "state": {"waiting": waiting}}]
    if disruption:
        raw["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True", "reason": disruption}]
    return raw


def job(pool: str = "base", *, attempt: int = 1, size: int = 1, **status: Any) -> dict[str, Any]:
    """A Job of a pool, with a status."""
    labels = {POOL_LABEL: pool, ATTEMPT_LABEL: str(attempt)}
    name = f"job-{pool}-{attempt}"
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}", "resourceVersion": "7", "labels": labels}
    spec = {"parallelism": size, "completions": size, "template": {}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec, "status": status}


def claim(name: str) -> dict[str, Any]:
    """A PersistentVolumeClaim that we made."""
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {}}


def node(taint: str = "", condition: str = "", time: str = "2026-01-01T11:59:50Z") -> dict[str, Any]:
    """A node, with a taint or a condition that is True."""
    conditions = [{"type": "Ready", "status": "True"}]
    if condition:
        conditions.append({"type": condition, "status": "True", "lastTransitionTime": time})
    taints = [{"key": taint, "effect": "NoSchedule", "timeAdded": time}] if taint else []
    return {"kind": "Node", "spec": {"taints": taints}, "status": {"conditions": conditions}}


def record(uid: str, *, connected: bool = True, received: datetime = NOW, **report: Any) -> AgentRecord:
    """What an agent said: by default that it trains in attempt 1."""
    facts: dict[str, Any] = {"attempt": 1, "state": "Training"} | report
    return AgentRecord(uid, TrainerReport(**facts), received, connected=connected)


def member(uid: str, node: str = "n1") -> dict[str, Any]:
    """A worker as `status.rendezvous.members` has it."""
    address = f"10.0.0.{sum(uid.encode()) % 250}"
    return {"pod": uid, "uid": uid, "address": address, "processes": 1, "node": node}


def training_status(*members: str, generation: int = 1, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """A stored status of a run that trains with `members` (UIDs)."""
    rendezvous: dict[str, Any] = {"members": [member(uid) for uid in members], **more.pop("rendezvous", {})}
    if members:
        rendezvous |= {"masterAddress": member(members[0])["address"], "masterPort": 29500 + generation % 400}
    return {"phase": "Running", "attempt": attempt, "generation": generation, "rendezvous": rendezvous, **more}


def world(
    *children: Raw,
    spec: Mapping[str, Any] = MINIMAL,
    status: Mapping[str, Any] | None = None,
    records: tuple[AgentRecord, ...] = (),
    nodes: Mapping[str, Raw | None] | None = None,
    **snapshot: Any,
) -> TrainingWorld:
    """The facts about `children`; every pod's node is fine unless `nodes` says otherwise (None: it is not there)."""
    known: dict[str, Raw | None] = {
        str(child["spec"].get("nodeName")): node() for child in children if child["kind"] == "Pod"
    }
    there = {name: found for name, found in (known | dict(nodes or {})).items() if found is not None}
    taken = Snapshot(custom_resource(spec, status), OPERATOR, children, there, **snapshot)
    return observe_training(taken, {one.pod_uid: one for one in records})
