"""What to do next with a pod: a pure function of its spec, what was observed, and the time.

Init containers run one after the other; a sidecar counts as done once it has started. Then all containers run. One that
ended is started again if its policy says so, not before its back-off is over. When every container has ended for good
the pod is over, and its sidecars are stopped.
"""

from dataclasses import dataclass, field

from diffusion_local.node.back_off import delay_before_restart
from diffusion_local.node.configuration import Manifest
from diffusion_local.node.moments import parse_moment
from diffusion_local.node.pod_record import (
    ContainerRecord,
    PodRecord,
    Running,
    Terminated,
    Verdict,
    Waiting,
    init_containers,
    is_sidecar,
    main_containers,
)

PULL_ERROR_SHOWN_SECONDS = 1.0
DEADLINE_EXCEEDED = Verdict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


def full_name(pod: Manifest) -> str:
    """How a kubelet's messages name a pod."""
    return "{name}_{namespace}({uid})".format_map(pod["metadata"])


@dataclass
class Decision:
    """What is to be done now, and when to ask again if nothing happens before."""

    pod: str
    """Its full name."""
    start: list[str] = field(default_factory=list)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """Containers whose waiting state changes."""
    wake_at: float = float("inf")
    failure: Verdict | None = None
    """The node ends the pod: all its containers are to be stopped."""
    over: bool = False
    """Nothing more will be started; what still runs (sidecars) is to be stopped."""

    def wake_by(self, moment: float) -> None:
        """Ask again not later than `moment`."""
        self.wake_at = min(self.wake_at, moment)


def policy_of(pod: Manifest) -> str:
    """The pod's restartPolicy."""
    return str(pod["spec"].get("restartPolicy", "Always"))


def restart_wanted(container: Manifest, policy: str, ended: Terminated) -> bool:
    """Whether a container that ended is to be started again: its own rules, its own policy, then the pod's."""
    for rule in container.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes") or {}
        if (ended.exit_code in (codes.get("values") or [])) == (codes.get("operator") == "In"):
            return True
    policy = container.get("restartPolicy", policy)
    return policy == "Always" or (policy == "OnFailure" and ended.exit_code != 0)


def ended_for_good(container: Manifest, record: PodRecord, policy: str) -> bool:
    """Whether a container has ended and will not be started again."""
    known = record.containers.get(container["name"])
    ended = known.termination if known is not None else None
    return ended is not None and not restart_wanted(container, policy, ended)


def init_failed(pod: Manifest, record: PodRecord) -> bool:
    """Whether an init container has failed for good: nothing is started any more, not even a sidecar that ended."""
    ends = [
        known.termination
        for container in init_containers(pod)
        if not is_sidecar(container) and (known := record.containers.get(container["name"])) is not None
    ]
    return policy_of(pod) == "Never" and any(end is not None and end.exit_code for end in ends)


def init_done(container: Manifest, record: ContainerRecord | None, over: bool) -> bool:
    """Whether the init containers behind this one may run."""
    if record is None:
        return False
    if is_sidecar(container):
        return record.started or over
    return record.termination is not None and record.termination.exit_code == 0


def initialized(pod: Manifest, record: PodRecord) -> bool:
    """Whether the containers proper may run."""
    return record.initialized or all(
        init_done(container, record.containers.get(container["name"]), over=False) for container in init_containers(pod)
    )


def deadline_of(pod: Manifest, record: PodRecord) -> float:
    """When the pod's activeDeadlineSeconds are over; never when it has none."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    if seconds is None:
        return float("inf")
    started = pod.get("status", {}).get("startTime")
    return (parse_moment(started) if started else record.accepted_at) + float(seconds)


def consider(container: Manifest, record: ContainerRecord | None, policy: str, now: float, decision: Decision) -> bool:
    """Decide about one container whose turn it is; True when it has ended for good."""
    name = container["name"]
    if record is None:
        decision.start.append(name)
        return False
    if isinstance(record.state, Running):
        return False
    ended = record.termination
    if ended is not None:
        if not restart_wanted(container, policy, ended):
            return True
        if not isinstance(record.state, Waiting) or record.state.reason == "CrashLoopBackOff":
            restart(name, record, ended, now, decision)
            return False
    if now >= record.retry_at:
        decision.start.append(name)
    else:
        decision.wake_by(record.retry_at)
        show_pull_back_off(container, record, now, decision)
    return False


def restart(name: str, record: ContainerRecord, ended: Terminated, now: float, decision: Decision) -> None:
    """Start again, or wait for the end of the back-off."""
    delay = delay_before_restart(record.failures)
    if now >= ended.finished_at + delay:
        decision.start.append(name)
        return
    decision.wake_by(ended.finished_at + delay)
    if not isinstance(record.state, Waiting):
        message = f"back-off {delay:g}s restarting failed container={name} pod={decision.pod}"
        decision.waiting[name] = Waiting("CrashLoopBackOff", message)


def show_pull_back_off(container: Manifest, record: ContainerRecord, now: float, decision: Decision) -> None:
    """ErrImagePull is shown for a moment, ImagePullBackOff until the next try."""
    if not isinstance(record.state, Waiting) or record.state.reason != "ErrImagePull":
        return
    shown_until = record.failed_at + PULL_ERROR_SHOWN_SECONDS
    if now >= shown_until:
        message = f'Back-off pulling image "{container["image"]}": {record.state.message}'
        decision.waiting[container["name"]] = Waiting("ImagePullBackOff", message)
    else:
        decision.wake_by(shown_until)


def decide(pod: Manifest, record: PodRecord, now: float) -> Decision:
    """The next steps for a pod whose volumes are ready. Total and deterministic; `now` in seconds since the epoch."""
    decision = Decision(full_name(pod))
    if record.stopping or record.failure is not None:
        decision.over = True
        return decision
    decision.wake_by(deadline_of(pod, record))
    if now >= decision.wake_at:
        decision.failure = DEADLINE_EXCEEDED
        return decision
    policy = policy_of(pod)
    init_policy = "Never" if policy == "Never" else "OnFailure"
    if all(ended_for_good(container, record, policy) for container in main_containers(pod)) or init_failed(pod, record):
        decision.over = True
        return decision
    for container in init_containers(pod):
        known = record.containers.get(container["name"])
        if init_done(container, known, over=False) and not is_sidecar(container):
            continue
        if consider(container, known, init_policy, now, decision):
            decision.over = True  # failed for good: its policy is Never
            return decision
        if not init_done(container, known, over=False) and not record.initialized:
            return decision
    for container in main_containers(pod):
        consider(container, record.containers.get(container["name"]), policy, now, decision)
    return decision
