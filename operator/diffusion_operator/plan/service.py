"""One DiffusionService: from facts to a plan.

The order of a pass: find out what the spec's model is, which revision that makes, and how far it has come; then the
children of the stable revision, of the candidate and of the routers; then a status that says so; then what routers are
told; and last, the objects of revisions that nobody sends requests to any more.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from diffusion_contract.agent_messages import Route, RouterInstruction
from diffusion_operator.api.service_revision import RevisionSpec
from diffusion_operator.api.service_spec import DiffusionServiceSpec
from diffusion_operator.children.engine_deployment import engine_deployment
from diffusion_operator.children.engine_service import engine_service
from diffusion_operator.children.metadata import Manifest, Owner
from diffusion_operator.children.router_deployment import router_deployment
from diffusion_operator.children.router_service import router_service
from diffusion_operator.children.service_disruption_budget import engine_disruption_budget, router_disruption_budget
from diffusion_operator.children.service_names import KIND
from diffusion_operator.children.serving_config_map import (
    engine_config_map,
    route_to,
    router_config,
    router_config_map,
)
from diffusion_operator.observe.service_world import RevisionObject, ServiceWorld
from diffusion_operator.plan.conditions import from_timestamp
from diffusion_operator.plan.plan import Event, ObjectReference, Plan
from diffusion_operator.plan.revision import (
    ResolvedModel,
    Rollout,
    Verdict,
    advance,
    resolve_model,
    short_model,
    target_revision,
)
from diffusion_operator.plan.service_status import Judgement, service_status, service_verdict

DRAIN_SECONDS = 10
"""How long an old revision stays after requests have moved: routers learn of it, and running images are finished."""

LOOK_AGAIN_SECONDS = 15.0
"""When to look again for an object of somebody else's that is missing: nobody tells us when it appears."""


@dataclass(frozen=True)
class _Decision:
    """What the parts of one pass have in common."""

    world: ServiceWorld
    owner: Owner
    model: ResolvedModel
    rollout: Rollout
    verdict: Verdict
    routes: tuple[Route, ...]
    router_image: str


def decide_service(world: ServiceWorld, now: datetime) -> Plan:
    """The plan for one DiffusionService; total: whatever the API server can store, it answers."""
    model = resolve_model(world, world.spec) if world.spec else ResolvedModel()
    target = target_revision(world, world.spec, model.reference) if world.spec and model.reference else None
    replicas = _replicas(world)
    rollout = advance(world, target, replicas, now) if world.spec else _as_recorded(world)
    case = Judgement(world, model, rollout, replicas)
    verdict = service_verdict(case)
    owner = Owner(kind=KIND, name=world.name, namespace=world.namespace, uid=world.uid)
    decision = _Decision(world, owner, model, rollout, verdict, _routes(owner, rollout), _router_image(world, rollout))
    return Plan(
        apply=_children(decision, world.spec) if world.spec else (),
        status=service_status(case, verdict, decision.routes, decision.router_image, now),
        instructions={uid: RouterInstruction(routes=decision.routes) for uid in world.router_pods},
        events=_events(decision),
        delete=_retired(decision, now),
        requeue_seconds=_requeue(decision, now),
    )


def _as_recorded(world: ServiceWorld) -> Rollout:
    """A spec that cannot be read changes nothing of what is under way."""
    return Rollout(world.history.stable, world.history.candidate, None)


def _replicas(world: ServiceWorld) -> int:
    if world.spec is not None:
        return world.spec.replicas.min
    stable = world.history.stable
    return world.engines[stable.revision].desired if stable and stable.revision in world.engines else 0


def _routes(owner: Owner, rollout: Rollout) -> tuple[Route, ...]:
    stable = rollout.stable
    if stable is None:
        return ()
    return (route_to(owner, stable.revision, "sha256:" + stable.model.rpartition("@sha256:")[2]),)


def _router_image(world: ServiceWorld, rollout: Rollout) -> str:
    """The operator's own, taken anew with each new revision, so that an upgrade of the operator restarts no router."""
    recorded = world.history.router_image
    known = {found.revision for found in (world.history.stable, world.history.candidate) if found}
    new_revision = any(revision not in known for revision in rollout.wanted)
    return world.operator.router_image if new_revision or not recorded else recorded


def _children(decision: _Decision, spec: DiffusionServiceSpec) -> tuple[Manifest, ...]:
    manifests: list[Manifest] = []
    for revision in decision.rollout.wanted:
        if recipe := _recipe(decision, revision):
            manifests += _engine_children(decision, recipe, spec)
    return (*manifests, *_router_children(decision, spec))


def _recipe(decision: _Decision, revision: str) -> RevisionSpec | None:
    """What a revision is made from: the spec for the newest, its own ConfigMap for an older one."""
    target = decision.rollout.target
    if target is not None and target.digest == revision:
        return target
    return decision.world.recipes.get(revision)


def _engine_children(decision: _Decision, recipe: RevisionSpec, spec: DiffusionServiceSpec) -> list[Manifest]:
    owner, revision = decision.owner, recipe.digest
    keys, agent_url = spec.auth.keys_ref.name, decision.world.operator.agent_url
    return [
        engine_config_map(owner, recipe),
        engine_service(owner, revision),
        engine_deployment(owner, recipe, spec.replicas.min, keys, agent_url),
        engine_disruption_budget(owner, revision),
    ]


def _router_children(decision: _Decision, spec: DiffusionServiceSpec) -> list[Manifest]:
    owner, operator = decision.owner, decision.world.operator
    stable = decision.rollout.stable
    serving = _recipe(decision, stable.revision) if stable else None
    sampling = serving.sampling if serving else spec.sampling
    return [
        router_config_map(owner, router_config(owner, sampling, decision.routes), operator.agent_ca),
        router_service(owner),
        router_deployment(
            owner,
            decision.router_image,
            spec.auth.keys_ref.name,
            sampling,
            spec.template.image_pull_secrets,
            operator.agent_url,
        ),
        router_disruption_budget(owner),
    ]


def _events(decision: _Decision) -> tuple[Event, ...]:
    history, rollout, verdict = decision.world.history, decision.rollout, decision.verdict
    events = []
    if decision.model.training and decision.model.reference != history.resolved and decision.model.reference:
        message = f"DiffusionTraining {decision.model.training} published {decision.model.reference}"
        events.append(Event("ModelResolved", message))
    if rollout.candidate is not None and rollout.candidate != history.candidate:
        shown = f"revision {rollout.candidate.revision} with model {short_model(rollout.candidate.model)}"
        events.append(Event("RevisionStarting", f"starting {shown}"))
    if rollout.promoted and rollout.stable is not None:
        shown = f"revision {rollout.stable.revision} with model {short_model(rollout.stable.model)}"
        events.append(Event("RevisionServing", f"all requests go to {shown}"))
    if verdict.standing == "Stalled" and history.condition("Stalled") != ("True", verdict.reason):
        events.append(Event(verdict.reason, verdict.message, "Warning"))
    return tuple(events)


def _draining_seconds(decision: _Decision, now: datetime) -> float:
    """Seconds until objects of revisions that get no requests may go; 0 or less is now."""
    stable = decision.rollout.stable
    since = from_timestamp(stable.since) if stable else None
    return (since + timedelta(seconds=DRAIN_SECONDS) - now).total_seconds() if since else 0.0


def _leftovers(decision: _Decision) -> tuple[RevisionObject, ...]:
    """Objects of revisions that are neither stable nor candidate; none where the spec cannot be read."""
    if decision.world.spec is None:
        return ()
    return tuple(found for found in decision.world.objects if found.revision not in decision.rollout.wanted)


def _retired(decision: _Decision, now: datetime) -> tuple[ObjectReference, ...]:
    if _draining_seconds(decision, now) > 0:
        return ()
    namespace = decision.world.namespace
    return tuple(
        ObjectReference(found.api_version, found.kind, namespace, found.name, found.uid, found.resource_version)
        for found in _leftovers(decision)
    )


def _requeue(decision: _Decision, now: datetime) -> float | None:
    draining = _draining_seconds(decision, now)
    if _leftovers(decision) and draining > 0:
        return min(draining + 0.1, DRAIN_SECONDS)
    missing = decision.verdict.reason in ("KeysNotFound", "KeysEmpty", "ModelClaimNotFound", "WaitingForTraining")
    return LOOK_AGAIN_SECONDS if missing else None
