"""Deployments of a DiffusionService and their pods: how many are ready, and what keeps the others from it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from diffusion_contract.exit_codes import ExitCode
from diffusion_contract.names import ROUTER_ROLE
from diffusion_operator.observe.creation_failures import refusal_in, refused
from diffusion_operator.observe.pods import (
    PULL_PROBLEMS,
    START_PROBLEMS,
    creating_since,
    parse_last_words,
    start_error,
    unschedulable,
)
from diffusion_operator.observe.raw_values import condition_of, integer_at, mapping_at, mappings_at, text_at
from diffusion_operator.observe.snapshot import Raw

CRASHES_UNTIL_TROUBLE = 2
"""Restarts after which a container that ends by itself is called crashing: the first may be an accident."""

_FINAL_CODES = (int(ExitCode.CONFIGURATION_REFUSED), int(ExitCode.DO_NOT_RETRY))


@dataclass(frozen=True)
class Trouble:
    """Why pods do not become ready and will not without help: a CamelCase word and a sentence with the remedy."""

    reason: str
    message: str


@dataclass(frozen=True)
class WorkloadFacts:
    """One Deployment with its pods. `desired` is what the Deployment was last told.

    `current` counts its pods, `available` those of its newest template that have been ready long enough; both are 0
    while the Deployment's controller has not yet seen the newest spec. `waiting` is a sentence about pods that are not
    placed on a node yet, empty without one. `creating`: pods whose container their node is making, and since when.
    `was_whole`: all pods of its newest template have been available once, or nobody says that they have not.
    """

    desired: int = 0
    current: int = 0
    ready: int = 0
    available: int = 0
    trouble: Trouble | None = None
    waiting: str = ""
    creating: tuple[tuple[str, str], ...] = ()
    was_whole: bool = True

    def serves(self, wanted: int) -> bool:
        """Whether `wanted` pods are there, of the newest template, and available."""
        return self.desired == wanted and self.available >= wanted


def observe_workload(deployment: Raw, pods: Iterable[Raw]) -> WorkloadFacts:
    """The facts about `deployment`; `pods` are those that carry its labels."""
    living = [pod for pod in pods if not text_at(pod, "metadata", "deletionTimestamp")]
    seen = integer_at(deployment, "status", "observedGeneration") or 0
    settled = seen >= (integer_at(deployment, "metadata", "generation") or 0)
    available = _count(deployment, "availableReplicas")
    updated = _count(deployment, "updatedReplicas")
    troubles = [trouble for pod in living if (trouble := pod_trouble(pod)) is not None]
    return WorkloadFacts(
        desired=integer_at(deployment, "spec", "replicas") or 0,
        current=_count(deployment, "replicas"),
        ready=_count(deployment, "readyReplicas"),
        available=min(available, updated) if settled else 0,
        trouble=min(troubles, key=_by_weight) if troubles else _deployment_trouble(deployment),
        waiting=next((sentence for pod in living if (sentence := unschedulable(pod))), ""),
        creating=tuple(pair for pod in living for pair in _creating(pod)),
        was_whole=text_at(condition_of(deployment, "Progressing"), "reason") in ("", "NewReplicaSetAvailable"),
    )


def _creating(pod: Raw) -> Iterator[tuple[str, str]]:
    for status in mappings_at(pod, "status", "containerStatuses"):
        if since := creating_since(pod, mapping_at(status, "state")):
            yield text_at(pod, "metadata", "name"), since


def pod_trouble(pod: Raw) -> Trouble | None:
    """What keeps this pod's container from getting ready, or None where it is ready or may still get there."""
    for status in mappings_at(pod, "status", "containerStatuses"):
        if status.get("ready") is True:
            continue
        found = _start_trouble(status) or _exit_trouble(status)
        if found is not None:
            return found
    return None


def _count(deployment: Raw, field: str) -> int:
    return max(0, integer_at(deployment, "status", field) or 0)


def _by_weight(trouble: Trouble) -> tuple[bool, str, str]:
    """A refusal in the container's own words says more than the back-off that follows from it."""
    return (trouble.reason in ("CrashLoop", "ImagePullFailed"), trouble.reason, trouble.message)


def _start_trouble(status: Raw) -> Trouble | None:
    waiting = mapping_at(status, "state", "waiting")
    reason, image = text_at(waiting, "reason"), text_at(status, "image")
    if reason in PULL_PROBLEMS:
        return Trouble(
            "ImagePullFailed",
            f"the image {image} cannot be pulled: correct its name in {_image_field(status)}, or add imagePullSecrets",
        )
    if reason in START_PROBLEMS:
        return Trouble("ContainerNotStarted", f"the container cannot be started: {text_at(waiting, 'message')}")
    return None


def _image_field(status: Raw) -> str:
    return "the operator's options" if text_at(status, "name") == ROUTER_ROLE else "spec.image"


def _exit_trouble(status: Raw) -> Trouble | None:
    """Judged by the newest end of the container, so that a restart in between changes nothing."""
    ended = mapping_at(status, "state", "terminated") or mapping_at(status, "lastState", "terminated")
    code = integer_at(ended, "exitCode")
    if code is None or code == 0:
        return None
    words = parse_last_words(text_at(ended, "message"))
    is_crashing = (integer_at(status, "restartCount") or 0) >= CRASHES_UNTIL_TROUBLE
    if words is not None and (code in _FINAL_CODES or is_crashing):
        where = f"{words.path}: " if words.path else ""
        return Trouble(_camel_case(words.reason), f"{where}{words.message or words.reason}")
    if code in _FINAL_CODES:
        return Trouble("ConfigurationRefused", f"the container refused its configuration (exit code {code})")
    if why := start_error(ended):
        return Trouble(
            "ContainerNotStarted", f"the container cannot be started: {why}; correct its name in {_image_field(status)}"
        )
    if not is_crashing:
        return None
    cause = text_at(ended, "reason")
    named = f", {cause}" if cause and cause != "Error" else ""
    remedy = "see `kubectl logs --previous`"
    if cause == "OOMKilled" and text_at(status, "name") != ROUTER_ROLE:
        remedy = "it uses more memory than its limit, so raise spec.resources.limits.memory"
    return Trouble("CrashLoop", f"the container keeps ending with exit code {code}{named}: {remedy}")


def _camel_case(reason: str) -> str:
    """`reason` if it can be the reason of a condition."""
    return reason if reason.isascii() and reason.isalnum() and reason[:1].isalpha() else "ConfigurationRefused"


def _deployment_trouble(deployment: Raw) -> Trouble | None:
    failure = condition_of(deployment, "ReplicaFailure")
    if failure.get("status") == "True":
        reason, message = refused(refusal_in(text_at(failure, "message")), "PodsRefused")
        return Trouble(reason, f"the API server refuses pods: {message}")
    progressing = condition_of(deployment, "Progressing")
    if progressing.get("status") == "False" and text_at(progressing, "reason") == "ProgressDeadlineExceeded":
        return Trouble("ProgressDeadlineExceeded", "no pod became ready in time: see `kubectl describe pod`")
    return None
