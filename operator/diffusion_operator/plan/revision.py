"""Which revision a DiffusionService should serve, and how far it is on the way from the one that it serves.

    spec.model --resolve--> reference --with image, sampling, ...--> target revision

    stable = none, target T    T starts as candidate; when all its pods are available, T is stable
    stable = S,    target S    nothing to do; a candidate that was under way is dropped
    stable = S,    target T    T starts beside S; S keeps all requests until all of T's pods are available

A candidate that cannot start changes nothing for S: there is no step by which S could lose its pods first. With 0
replicas nothing can be seen to start, so T stays a candidate beside S until it has been available once.

stable = none although engines run means that the status was lost: the revision that serves is taken up again.
"""

from dataclasses import dataclass
from datetime import datetime

from diffusion_contract.model_reference import parse_model_reference
from diffusion_operator.api.service_revision import RevisionSpec
from diffusion_operator.api.service_spec import DiffusionServiceSpec
from diffusion_operator.observe.service_history import RecordedRevision
from diffusion_operator.observe.service_workloads import WorkloadFacts
from diffusion_operator.observe.service_world import ServiceWorld
from diffusion_operator.plan.conditions import Health
from diffusion_operator.plan.timestamps import to_timestamp


@dataclass(frozen=True)
class Verdict:
    """How a service stands, why in one word, and why in a sentence that names the remedy where there is one."""

    standing: Health
    reason: str
    message: str


@dataclass(frozen=True)
class ResolvedModel:
    """What `spec.model` means: a reference, or the verdict that says why there is none yet.

    `training` is the name of the DiffusionTraining that it came from, empty for `model.ref`.
    """

    reference: str = ""
    training: str = ""
    problem: Verdict | None = None


@dataclass(frozen=True)
class Rollout:
    """The revision that gets all requests, the one that is being started, and what each is made from.

    `target` is None while the model is not known. `promoted`: this very pass moves the requests.
    """

    stable: RecordedRevision | None
    candidate: RecordedRevision | None
    target: RevisionSpec | None
    promoted: bool = False

    @property
    def wanted(self) -> tuple[str, ...]:
        """The revisions whose objects must exist."""
        return tuple(recorded.revision for recorded in (self.stable, self.candidate) if recorded is not None)


def resolve_model(world: ServiceWorld, spec: DiffusionServiceSpec) -> ResolvedModel:
    """`model.ref` as it is; `model.fromTraining` once, and from then on what the status holds."""
    if spec.model.ref is not None:
        return ResolvedModel(reference=spec.model.ref)
    name = spec.model.from_training.name if spec.model.from_training else ""
    if world.history.resolved and world.history.training == name:
        return ResolvedModel(reference=world.history.resolved, training=name)
    if world.training is not None and world.training.published:
        return ResolvedModel(reference=world.training.published, training=name)
    return ResolvedModel(training=name, problem=_why_no_model(world, name))


def _why_no_model(world: ServiceWorld, name: str) -> Verdict:
    training = world.training
    if training is None:
        message = (
            f"waits for DiffusionTraining {name}, which does not exist: create it in this namespace, or correct "
            "spec.model.fromTraining.name"
        )
        return Verdict("Reconciling", "WaitingForTraining", message)
    said = f": {training.message}" if training.message else ""
    if training.phase == "Failed":
        message = f"DiffusionTraining {name} failed{said}; correct it, or set model.ref to another version"
        return Verdict("Stalled", "TrainingFailed", message)
    if not training.publishes:
        message = f"DiffusionTraining {name} has no spec.publish, so no model version will come out of it"
        return Verdict("Stalled", "NothingPublished", message)
    phase = training.phase or "Pending"
    return Verdict("Reconciling", "WaitingForTraining", f"waits for DiffusionTraining {name}, which is {phase}")


def target_revision(world: ServiceWorld, spec: DiffusionServiceSpec, reference: str) -> RevisionSpec:
    """What the spec asks for, with the model resolved.

    Where the spec names no image, a revision keeps the operator's image that it was made with, so that an upgrade of
    the operator makes no new revision; only one that is new for another reason takes the operator's present image. An
    image that the spec once named is not kept: whoever takes it out of the spec does not want it any more.
    """

    def with_image(image: str) -> RevisionSpec:
        return RevisionSpec(
            model=reference,
            image=image,
            resources=spec.resources,
            template=spec.template,
            sampling=spec.sampling,
            max_batch=spec.batching.max_batch,
        )

    if spec.image is not None:
        return with_image(spec.image)
    for recorded in (world.history.stable, world.history.candidate):
        if recorded is not None and recorded.image and with_image(recorded.image).digest == recorded.revision:
            return with_image(recorded.image)
    return with_image(world.operator.server_image)


def advance(world: ServiceWorld, target: RevisionSpec | None, replicas: int, now: datetime) -> Rollout:
    """The next state of the rollout; it moves requests only to a revision all of whose pods are available."""
    stable, recorded = world.history.stable, world.history.candidate
    keeps_image = world.spec is not None and world.spec.image is None
    if target is None or (stable is not None and stable.revision == target.digest):
        return Rollout(stable, None, target)
    if recorded is None or recorded.revision != target.digest:
        return Rollout(stable, _recorded(target, keeps_image, now), target)
    if _may_take_over(world, target.digest, replicas):
        return Rollout(_recorded(target, keeps_image, now), None, target, promoted=True)
    return Rollout(stable, recorded, target)


def _may_take_over(world: ServiceWorld, revision: str, replicas: int) -> bool:
    """All its pods are available; with none wanted, there is no other revision that could be better."""
    if not world.engines.get(revision, WorkloadFacts()).serves(replicas):
        return False
    return replicas > 0 or (world.history.stable is None and world.engines.keys() == {revision})


def adopted(world: ServiceWorld, now: datetime) -> RecordedRevision | None:
    """The revision that serves although the status names none, because the status was lost; None where none does.

    It is one that routers say they send to, or else the only one that is wholly available; a candidate is promoted in
    the usual way. Its ConfigMap must still say what it is made from.
    """
    if world.history.stable is not None:
        return None
    known = {revision: facts for revision, facts in world.engines.items() if revision in world.recipes}
    routed = {revision for router in world.routers for revision in router.routed or ()} & known.keys()
    candidate = world.history.candidate
    whole = {revision for revision, facts in known.items() if facts.available >= max(1, facts.desired)}
    whole -= {candidate.revision} if candidate else set()
    found = routed or (whole if len(whole) == 1 else set())
    if not found:
        return None
    serving = max(found, key=lambda revision: (known[revision].available, revision))
    return _recorded(world.recipes[serving], world.spec is None or world.spec.image is None, now)


def short_model(reference: str) -> str:
    """The first twelve digits of the digest in `reference`, as columns and sentences show it."""
    return parse_model_reference(reference).short_digest


def _recorded(target: RevisionSpec, keeps_image: bool, now: datetime) -> RecordedRevision:
    return RecordedRevision(target.digest, target.model, target.image if keeps_image else "", to_timestamp(now))
