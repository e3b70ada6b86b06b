"""The status of a pod as a kubelet writes it: a pure function of the pod, what was observed, and the time."""

from collections.abc import Sequence
from decimal import Decimal

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_status import container_statuses, ephemeral_statuses
from diffusion_local.node.moments import rfc3339
from diffusion_local.node.pod_decisions import ended_for_good, init_done, init_failed, initialized, policy_of
from diffusion_local.node.pod_record import (
    PodRecord,
    Running,
    Waiting,
    init_containers,
    is_sidecar,
    main_containers,
)
from diffusion_local.node.quantity import parse_quantity

TERMINAL_PHASES = ("Succeeded", "Failed")


def quality_of_service(pod: Manifest) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' requests and limits."""
    resources = [c.get("resources") or {} for c in [*init_containers(pod), *main_containers(pod)]]
    tables = [
        {
            name: parse_quantity(str(amount))
            for name, amount in (entry.get(kind) or {}).items()
            if name in ("cpu", "memory")
        }
        for entry in resources
        for kind in ("requests", "limits")
    ]
    if not any(amount for table in tables for amount in table.values()):
        return "BestEffort"
    for requests, limits in zip(tables[::2], tables[1::2], strict=True):
        zero = Decimal(0)
        if any(not limits.get(name) or requests.get(name, zero) != limits[name] for name in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"


def pod_phase(pod: Manifest, record: PodRecord) -> str:
    """Pending, Running, Succeeded or Failed, as a kubelet says it; nothing is terminal while anything runs."""
    mains = [record.containers.get(container["name"]) for container in main_containers(pod)]
    ends = [known.termination if known is not None else None for known in mains]
    succeeded = all(end is not None and end.exit_code == 0 for end in ends)
    alive = any(isinstance(known.state, Running) for known in record.containers.values())
    if not alive:
        if record.failure is not None or init_failed(pod, record):
            return "Failed"
        if record.stopping or all(ended_for_good(c, record, policy_of(pod)) for c in main_containers(pod)):
            return "Succeeded" if succeeded else "Failed"
    waits = any(known is None or (isinstance(known.state, Waiting) and known.last is None) for known in mains)
    return "Pending" if waits or not initialized(pod, record) else "Running"


def condition(kind: str, holds: bool, reason: str = "", message: str = "") -> Manifest:
    """A condition without its time, for a strategic merge patch."""
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason or None,  # None takes away what was there
        "message": message or None,
    }


def readiness(kind: str, phase: str, unready: Sequence[str]) -> Manifest:
    """ContainersReady, or Ready before the readiness gates are asked."""
    if phase == "Succeeded":
        return condition(kind, False, "PodCompleted")
    if phase == "Failed":
        return condition(kind, False, "PodFailed")
    if unready:
        return condition(kind, False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    return condition(kind, True)


def gate_condition(pod: Manifest, ready: Manifest) -> Manifest:
    """Hold Ready back until every readiness gate of the pod is True."""
    if ready["status"] != "True":
        return ready
    held = {entry["type"]: entry["status"] for entry in pod.get("status", {}).get("conditions") or []}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    closed = [gate for gate in gates if held.get(gate) != "True"]
    if not closed:
        return ready
    said = "; ".join(
        f'corresponding condition of pod readiness gate "{gate}" '
        + ("does not exist." if gate not in held else 'is not "True".')
        for gate in closed
    )
    return condition("Ready", False, "ReadinessGatesNotReady", said)


def conditions(pod: Manifest, record: PodRecord, phase: str) -> list[Manifest]:
    """The conditions that a kubelet owns, without times."""
    mains = main_containers(pod)
    restartable = [c for c in init_containers(pod) if is_sidecar(c)]
    unready = [
        c["name"]
        for c in [*restartable, *mains]
        if (known := record.containers.get(c["name"])) is None or not known.ready
    ]
    incomplete = [c["name"] for c in init_containers(pod) if not init_done(c, record.containers.get(c["name"]), False)]
    if phase == "Succeeded":
        first = condition("Initialized", True, "PodCompleted")
    elif initialized(pod, record):
        first = condition("Initialized", True)
    else:
        message = f"containers with incomplete status: [{' '.join(incomplete)}]"
        first = condition("Initialized", False, "ContainersNotInitialized", message)
    sandbox = record.sandbox_ready and phase not in TERMINAL_PHASES
    found = [
        condition("PodReadyToStartContainers", sandbox),
        first,
        gate_condition(pod, readiness("Ready", phase, unready)),
        readiness("ContainersReady", phase, unready),
    ]
    if record.disruption is not None:
        found.append(condition("DisruptionTarget", True, record.disruption.reason, record.disruption.message))
    return found


def with_times(
    entries: list[Manifest], before: Sequence[Manifest], generation: int | None, now: float
) -> list[Manifest]:
    """Add lastTransitionTime: the old one where the status did not change."""
    known = {entry["type"]: entry for entry in before}
    for entry in entries:
        old = known.get(entry["type"])
        unchanged = old is not None and old["status"] == entry["status"] and old.get("lastTransitionTime")
        entry["lastTransitionTime"] = unchanged or rfc3339(now)
        entry["lastProbeTime"] = None
        if generation is not None:
            entry["observedGeneration"] = generation
    return entries


def pod_status(pod: Manifest, record: PodRecord, host_ip: str, before: Manifest, now: float) -> Manifest:
    """The whole status that the agent owns. `before` is the last status written; `now` dates new transitions."""
    phase = pod_phase(pod, record)
    generation = pod["metadata"].get("generation")
    status: Manifest = {
        "phase": phase,
        "qosClass": pod.get("status", {}).get("qosClass") or quality_of_service(pod),
        "startTime": before.get("startTime") or rfc3339(record.accepted_at),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "conditions": with_times(conditions(pod, record, phase), before.get("conditions") or [], generation, now),
        "containerStatuses": container_statuses(pod, main_containers(pod), record),
    }
    if init_containers(pod):
        status["initContainerStatuses"] = container_statuses(pod, init_containers(pod), record)
    if ephemeral := ephemeral_statuses(pod):
        status["ephemeralContainerStatuses"] = ephemeral
    if generation is not None:
        status["observedGeneration"] = generation
    if record.ip:
        status |= {"podIP": record.ip, "podIPs": [{"ip": record.ip}]}
    if record.failure is not None:
        told = {"reason": record.failure.reason, "message": record.failure.message}
        status |= {field: text for field, text in told.items() if text}
    return status
