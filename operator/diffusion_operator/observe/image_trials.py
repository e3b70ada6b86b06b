"""Jobs that try an image, as named facts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diffusion_contract.names import IMAGE_TRIAL_ROLE, ROLE_LABEL, TRAINER_CONTAINER
from diffusion_operator.observe.pods import PULL_PROBLEMS, START_PROBLEMS, PodFacts, observe_pod
from diffusion_operator.observe.raw_values import label_of, text_at
from diffusion_operator.observe.snapshot import Raw

JOB_LABEL = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class ImageTrial:
    """The trial of one image. `pod`: the one that tells most, or the newest; None while there is none."""

    name: str
    uid: str
    created: str
    deleting: bool
    raw: Raw
    pod: PodFacts | None

    @property
    def has_started(self) -> bool:
        """Whether the image was pulled, and its container began to run."""
        return self.pod is not None and has_started(self.pod)

    @property
    def has_failed(self) -> bool:
        """Whether the image cannot be pulled or started now."""
        return self.pod is not None and (_cannot_start(self.pod) or self.pod.waiting in PULL_PROBLEMS | START_PROBLEMS)

    @property
    def is_at_work(self) -> bool:
        """Whether a node has taken the trial on."""
        return self.pod is not None and bool(self.pod.node) and not self.pod.terminal


def has_started(pod: PodFacts) -> bool:
    """Whether a pod's container runs or has run."""
    return not _cannot_start(pod) and (pod.phase in ("Running", "Succeeded") or pod.exit_code is not None)


def _cannot_start(pod: PodFacts) -> bool:
    return bool(pod.start_error)


def _progress(pod: PodFacts) -> tuple[bool, bool, bool, str]:
    """How much a pod tells: one that is tried anew after another could not be started tells nothing yet."""
    return has_started(pod), _cannot_start(pod), not pod.terminal, pod.created


def is_image_trial(raw: Raw) -> bool:
    """Whether a Job or a pod tries an image, and is no worker."""
    return label_of(raw, ROLE_LABEL) == IMAGE_TRIAL_ROLE


def observe_image_trials(children: Sequence[Raw]) -> Iterator[ImageTrial]:
    """All that are there, those of images that nobody wants any more too."""
    trials = [child for child in children if is_image_trial(child)]
    for raw in trials:
        if raw.get("kind") == "Job":
            name = text_at(raw, "metadata", "name")
            pods = [observe_pod(p, TRAINER_CONTAINER) for p in trials if label_of(p, JOB_LABEL) == name]
            yield ImageTrial(
                name=name,
                uid=text_at(raw, "metadata", "uid"),
                created=text_at(raw, "metadata", "creationTimestamp"),
                deleting=bool(text_at(raw, "metadata", "deletionTimestamp")),
                raw=raw,
                pod=max(pods, key=_progress, default=None),
            )
