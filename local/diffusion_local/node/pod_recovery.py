"""What an agent makes of a pod that an earlier one ran: the machine was rebooted, so nothing of it runs any more.

Only containers that had run are lost. A pod that is never restarted has failed with them; any other is started again in
place: init containers once more, since its emptyDirs are new, then what its policy restarts. A pod of which nothing had
run simply starts. One that had ended keeps its end. Pure.
"""

from dataclasses import replace

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_status import record_from_status
from diffusion_local.node.moments import parse_moment
from diffusion_local.node.pod_decisions import policy_of
from diffusion_local.node.pod_record import (
    ContainerRecord,
    PodRecord,
    Verdict,
    Waiting,
    init_containers,
    is_sidecar,
)


def recorded(pod: Manifest, now: float) -> PodRecord:
    """What the pod's status tells; `now` is when lost containers ended, in seconds since the epoch."""
    status = pod.get("status") or {}
    entries = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    told = {entry["name"]: record_from_status(entry, now) for entry in entries}
    return PodRecord(
        containers={name: known for name, known in told.items() if known is not None},
        accepted_at=parse_moment(status["startTime"]) if status.get("startTime") else now,
    )


def finished_record(pod: Manifest, now: float) -> PodRecord:
    """The record of a pod that had ended."""
    status = pod["status"]
    failed = status["phase"] == "Failed"
    failure = Verdict(status.get("reason", ""), status.get("message", "")) if failed else None
    return replace(recorded(pod, now), ip=status.get("podIP", ""), stopping=True, failure=failure)


def recovered_record(pod: Manifest, now: float) -> PodRecord:
    """The record with which a pod that had not ended goes on; `stopping` where it does not."""
    record = recorded(pod, now)
    if record.containers and policy_of(pod) == "Never":
        return replace(record, ip=pod["status"].get("podIP", ""), stopping=True)
    again = {
        name: once_more(record.containers[name])
        for container in init_containers(pod)
        if not is_sidecar(container) and (name := container["name"]) in record.containers
    }
    return replace(record, containers={**record.containers, **again})


def once_more(known: ContainerRecord) -> ContainerRecord:
    """An init container that is to run again, whatever it came to."""
    if known.termination is not None and known.termination.exit_code != 0:
        return known
    return ContainerRecord(Waiting("PodInitializing"), restarts=known.restarts + 1, container_id=known.container_id)
