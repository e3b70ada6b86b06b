"""What agents in pods report to the operator, and what they are told in return.

One HTTP request carries both: `POST /v1/poll` with a PollRequest is held until the instruction differs from the one
that the agent has seen, or until `wait_seconds` have passed. Reports are observations that may be lost at any time;
instructions are always derived from what already stands in the status of the custom resource.
"""

from typing import Annotated, Literal

from pydantic import Field

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.run_config import Sha256


class CheckpointReference(FrozenModel):
    """A checkpoint by its step, the sha256 of its MANIFEST.json, and its time of commit (RFC 3339, UTC)."""

    step: Annotated[int, Field(ge=0)]
    digest: Sha256
    time: str


class PassedOver(FrozenModel):
    """A checkpoint that a reader refused, and why: it fell back to an older one."""

    step: Annotated[int, Field(ge=0)]
    reason: str


class SaveFailure(FrozenModel):
    """A save that did not commit. `reason` is a CamelCase word (StorageFull, StorageReadOnly, Fenced, SaveFailed)."""

    reason: str
    message: str


class Recovery(FrozenModel):
    """One regrouping as this worker saw it: seconds from losing the old generation to the next optimizer step."""

    generation: Annotated[int, Field(ge=1)]
    lost_steps: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]


class PublishedVersion(FrozenModel):
    """A model version: `reference` is `pvc://CLAIM/NAME@sha256:...`, `digest` that of its OCI manifest."""

    reference: str
    digest: Sha256
    step: Annotated[int, Field(ge=0)]


TrainerState = Literal["Starting", "Ready", "Training", "Regrouping", "Publishing", "Leaving", "Finished", "Failed"]


class TrainerFacts(FrozenModel):
    """What a worker, or one of its processes, knows of the training: None until it was measured or has happened."""

    broken: int | None = None
    """The generation whose collectives failed here (a peer died): asks for the next one."""
    step: int | None = None
    """The optimizer step whose state this worker holds in memory; None is no state."""
    loss: float | None = None
    samples_per_second: float | None = None
    samples_seen: int | None = None
    committed: CheckpointReference | None = None
    verified: CheckpointReference | None = None
    save_failure: SaveFailure | None = None
    save_seconds: float | None = None
    """From a snapshot to its commit: what 99 of 100 of the newest saves took at most."""
    recovery: Recovery | None = None
    published: PublishedVersion | None = None


class TrainerReport(TrainerFacts):
    """One worker of a DiffusionTraining."""

    kind: Literal["trainer"] = "trainer"
    attempt: Annotated[int, Field(ge=0)]
    state: TrainerState
    generation: Annotated[int, Field(ge=0)] = 0
    """The generation that this worker's processes are in; 0 is none."""
    passed_over: tuple[PassedOver, ...] = ()
    leaving: bool = False
    """The pod was told to end (SIGTERM) and will leave at the next agreed boundary."""
    message: str = ""


class Member(FrozenModel):
    """One worker of a generation. Its processes have the ranks that follow those of the members before it."""

    pod: str
    uid: str
    address: str
    processes: Annotated[int, Field(ge=1)] = 1


class TrainerInstruction(FrozenModel):
    """The generation to be in. A worker that is not among `members` saves with the others and leaves, or waits."""

    kind: Literal["trainer"] = "trainer"
    attempt: Annotated[int, Field(ge=0)]
    generation: Annotated[int, Field(ge=0)]
    members: tuple[Member, ...] = ()
    master_address: str = ""
    master_port: int = 0
    resume_step: int | None = None
    """The newest committed step known when the generation was made; None where there is none."""
    leaving: tuple[str, ...] = ()
    """UIDs of pods that end soon: they leave with exit code 75 after the boundary at which the generation changes."""
    stop: bool = False
    """The run is suspended or being deleted: everyone saves at one boundary and leaves with exit code 75."""


class Route(FrozenModel):
    """A revision that the router may send to. `host` is the headless Service's DNS name."""

    revision: str
    host: str
    port: int
    model_digest: Sha256
    weight: Annotated[int, Field(ge=0, le=100)] = 100


class RouterReport(FrozenModel):
    """One router pod: the revisions that it knows of, how many of their engines answer, and where requests go."""

    kind: Literal["router"] = "router"
    ready_engines: dict[str, int] = Field(default_factory=dict)
    routed: tuple[str, ...] | None = None
    """The revisions that requests are sent to now; None before the first look at the engines is over."""


class RouterInstruction(FrozenModel):
    """All routes; weights sum to 100, or there is none at all."""

    kind: Literal["router"] = "router"
    routes: tuple[Route, ...] = ()
    since: str = ""
    """Since when they hold (RFC 3339, UTC, whole seconds), so that an older copy of the routes is known as such."""


Report = Annotated[TrainerReport | RouterReport, Field(discriminator="kind")]
Instruction = Annotated[TrainerInstruction | RouterInstruction, Field(discriminator="kind")]


class PollRequest(FrozenModel):
    """A report, the revision of the instruction that the agent already has ("" is none), and how long it will wait."""

    report: Report
    seen: str = ""
    wait_seconds: Annotated[float, Field(ge=0, le=60)] = 25


class PollAnswer(FrozenModel):
    """The current instruction and its revision; `instruction` is None while there is none for this pod."""

    revision: str = ""
    instruction: Instruction | None = None


class TerminationMessage(FrozenModel):
    """What a workload writes to TERMINATION_FILE as its last words: facts that outlive the agent channel.

    The kubelet stores it as `state.terminated.message` (at most 4,096 bytes), so the operator learns it also when it
    was away. `reason` is a CamelCase word, `path` the field of the spec that is at fault.
    """

    reason: str
    message: str = ""
    path: str | None = None
    step: int | None = None
    committed: CheckpointReference | None = None
    published: PublishedVersion | None = None
