"""One workload pod as named facts: how it lives or how it ended, and its last words."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from diffusion_contract.agent_messages import TerminationMessage
from diffusion_operator.observe.raw_values import condition_of, integer_at, mapping_at, mappings_at, text_at
from diffusion_operator.observe.snapshot import Raw

PodPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
_PHASES: tuple[PodPhase, ...] = ("Pending", "Running", "Succeeded", "Failed")

PULL_PROBLEMS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
"""What a container waits for, in the kubelet's words, whose image cannot be had now."""

START_PROBLEMS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
"""And what one waits for that cannot be made."""

START_FAILURES = frozenset({"StartError", "ContainerCannotRun"})
"""How a container ends whose command could not be begun, mostly because its image has none by that name."""


@dataclass(frozen=True)
class PodFacts:
    """One pod. Times are RFC 3339 or empty. `exit_code` is None while its container has not ended.

    `last_words`: what the container wrote to its termination file; None where it wrote nothing that can be read.
    `disruption`: reason of the DisruptionTarget condition, empty without one. `waiting`, `waiting_message`: why a
    container does not start (ImagePullBackOff, ...). `unschedulable`: the scheduler's sentence, empty once placed.
    `creating_since`: since when its node has been making its container, which it has not yet begun to start.
    `start_error`: the node's words where the container's command could not be begun, empty otherwise.
    `lost_container`: its node does not know how the container ended: it was started anew, and only guesses at a code.
    """

    name: str
    uid: str
    node: str
    address: str
    phase: PodPhase
    created: str = ""
    deleting_since: str = ""
    grace_seconds: int | None = None
    exit_code: int | None = None
    finished: str = ""
    oom_killed: bool = False
    last_words: TerminationMessage | None = None
    disruption: str = ""
    waiting: str = ""
    waiting_message: str = ""
    unschedulable: str = ""
    creating_since: str = ""
    start_error: str = ""
    lost_container: bool = False

    @property
    def terminal(self) -> bool:
        """Whether this pod will never run again: its phase says so, or its only container has ended for good."""
        return self.phase in ("Succeeded", "Failed") or self.exit_code is not None

    @property
    def deleting(self) -> bool:
        """Whether somebody asked for the end of this pod."""
        return bool(self.deleting_since)


def observe_pod(raw: Raw, container: str) -> PodFacts:
    """The facts about a pod whose one workload container is called `container` and is not restarted."""
    state = _container_state(raw, container)
    ended, waiting = mapping_at(state, "terminated"), mapping_at(state, "waiting")
    disruption = condition_of(raw, "DisruptionTarget")
    return PodFacts(
        name=text_at(raw, "metadata", "name"),
        uid=text_at(raw, "metadata", "uid"),
        node=text_at(raw, "spec", "nodeName"),
        address=text_at(raw, "status", "podIP"),
        phase=_phase(raw),
        created=text_at(raw, "metadata", "creationTimestamp"),
        deleting_since=text_at(raw, "metadata", "deletionTimestamp"),
        grace_seconds=integer_at(raw, "metadata", "deletionGracePeriodSeconds"),
        exit_code=integer_at(ended, "exitCode"),
        finished=text_at(ended, "finishedAt"),
        lost_container=text_at(ended, "reason") == "ContainerStatusUnknown",
        oom_killed=text_at(ended, "reason") == "OOMKilled",
        start_error=start_error(ended),
        last_words=parse_last_words(text_at(ended, "message")),
        disruption=text_at(disruption, "reason") or "Disrupted" if disruption.get("status") == "True" else "",
        waiting=text_at(waiting, "reason"),
        waiting_message=text_at(waiting, "message"),
        unschedulable=unschedulable(raw),
        creating_since=creating_since(raw, state),
    )


def start_error(ended: Raw) -> str:
    """Why the command of a container that has `ended` could not be begun; empty where it was."""
    reason = text_at(ended, "reason")
    return text_at(ended, "message") or reason if reason in START_FAILURES else ""


def creating_since(pod: Raw, state: Raw) -> str:
    """When the pod came to its node, while that has not yet begun to start the container of this `state`."""
    if text_at(state, "waiting", "reason") != "ContainerCreating":
        return ""
    return text_at(condition_of(pod, "PodScheduled"), "lastTransitionTime")


def unschedulable(raw: Raw) -> str:
    """Why a pod has no node, in the scheduler's words; empty where it has one, or nobody has tried yet."""
    scheduled = condition_of(raw, "PodScheduled")
    if text_at(raw, "spec", "nodeName") or scheduled.get("status") != "False":
        return ""
    return text_at(scheduled, "message") or text_at(scheduled, "reason") or "Unschedulable"


def parse_last_words(text: str) -> TerminationMessage | None:
    """The termination message; None where there is none or it is not one of ours: that is a fact, not an error."""
    if not text:
        return None
    try:
        return TerminationMessage.model_validate_json(text)
    except ValidationError:
        return None


def _container_state(raw: Raw, container: str) -> Raw:
    for status in mappings_at(raw, "status", "containerStatuses"):
        if status.get("name") == container:
            return mapping_at(status, "state")
    return {}


def _phase(raw: Raw) -> PodPhase:
    phase = text_at(raw, "status", "phase") or "Pending"
    return next((known for known in _PHASES if known == phase), "Unknown")
