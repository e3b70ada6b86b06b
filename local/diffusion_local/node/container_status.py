"""Container statuses as a kubelet writes them, and back into records."""

from collections.abc import Sequence

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.moments import parse_moment, rfc3339
from diffusion_local.node.pod_record import (
    ContainerRecord,
    PodRecord,
    Running,
    State,
    Terminated,
    Waiting,
    init_containers,
    is_sidecar,
    main_containers,
)

ID_SCHEME = "process://"
PROCESS_LOST = 137
"""Exit code that Kubernetes gives to a container whose end nobody saw."""
NOT_STARTED = 128
NO_EPHEMERAL_CONTAINERS = "this development node runs no ephemeral containers (kubectl debug)"
LOST_MESSAGE = "The container could not be located when the pod was terminated"


def state_manifest(state: State | None) -> Manifest:
    """A ContainerState; empty for None."""
    match state:
        case None:
            return {}
        case Waiting():
            return {"waiting": {"reason": state.reason} | ({"message": state.message} if state.message else {})}
        case Running():
            return {"running": {"startedAt": rfc3339(state.started_at)}}
        case Terminated():
            entry: Manifest = {
                "exitCode": state.exit_code,
                "reason": state.reason,
                "startedAt": rfc3339(state.started_at),
                "finishedAt": rfc3339(state.finished_at),
            }
            if state.message:
                entry["message"] = state.message
            if state.container_id:
                entry["containerID"] = ID_SCHEME + state.container_id
            return {"terminated": entry}


def container_status(container: Manifest, known: ContainerRecord | None, untried: Waiting, init: bool) -> Manifest:
    """One ContainerStatus; `untried` is the state of a container that was never tried."""
    record = known if known is not None else ContainerRecord(untried)
    running = isinstance(record.state, Running)
    completed_init = init and isinstance(record.state, Terminated) and record.state.exit_code == 0
    entry: Manifest = {
        "name": container["name"],
        "image": container["image"],
        "imageID": f"local/{container['image']}" if record.container_id else "",
        "ready": completed_init if init and not is_sidecar(container) else running and record.ready,
        "started": running and record.started,
        "restartCount": record.restarts,
        "state": state_manifest(record.state),
        "lastState": state_manifest(record.last),
    }
    if record.container_id:
        entry["containerID"] = ID_SCHEME + record.container_id
    return entry


def ephemeral_statuses(pod: Manifest) -> list[Manifest]:
    """The statuses of containers that somebody added to debug the pod: they are not run, and that is said of them."""
    ended = {"terminated": {"exitCode": NOT_STARTED, "reason": "NotSupported", "message": NO_EPHEMERAL_CONTAINERS}}
    return [
        container_status(container, None, Waiting("NotSupported"), init=False) | {"state": ended}
        for container in pod["spec"].get("ephemeralContainers") or []
    ]


def container_statuses(pod: Manifest, containers: Sequence[Manifest], record: PodRecord) -> list[Manifest]:
    """The statuses of the pod's init containers in the order of the spec, or of its containers proper by name."""
    inits = {container["name"] for container in init_containers(pod)}
    begun = any(container["name"] in record.containers for container in main_containers(pod))
    untried = Waiting("PodInitializing" if inits and not begun else "ContainerCreating")
    if not all(container["name"] in inits for container in containers):
        containers = sorted(containers, key=lambda container: str(container["name"]))
    return [
        container_status(container, record.containers.get(container["name"]), untried, container["name"] in inits)
        for container in containers
    ]


def record_from_status(status: Manifest, now: float) -> ContainerRecord | None:
    """What a status says about a container whose agent is gone; None for one that never ran.

    One that ran has been lost: nobody saw how it ended, so it has just ended with 137.
    """
    state = status.get("state") or {}
    earlier = (status.get("lastState") or {}).get("terminated")
    last = None if earlier is None else terminated_from(earlier)
    container_id = (status.get("containerID") or "").removeprefix(ID_SCHEME)
    known: State
    if ended := state.get("terminated"):
        known = terminated_from(ended)
    elif running := state.get("running"):
        begun = parse_moment(running["startedAt"]) if running.get("startedAt") else now
        known = Terminated(PROCESS_LOST, "ContainerStatusUnknown", LOST_MESSAGE, begun, now, container_id)
    elif last is not None:
        waiting = state.get("waiting") or {}
        known = Waiting(waiting.get("reason", ""), waiting.get("message", ""))
    else:
        return None
    return ContainerRecord(known, last, status.get("restartCount", 0), failures=1, container_id=container_id)


def terminated_from(entry: Manifest) -> Terminated:
    """A ContainerStateTerminated as a value."""
    return Terminated(
        exit_code=entry["exitCode"],
        reason=entry.get("reason", ""),
        message=entry.get("message", ""),
        started_at=parse_moment(entry["startedAt"]) if entry.get("startedAt") else 0.0,
        finished_at=parse_moment(entry["finishedAt"]) if entry.get("finishedAt") else 0.0,
        container_id=(entry.get("containerID") or "").removeprefix(ID_SCHEME),
    )
