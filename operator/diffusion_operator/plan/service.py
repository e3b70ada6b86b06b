"""One DiffusionService: from facts to a plan.

The order of a pass: find out what the spec's model is, which revision that makes, and how far it has come; then the
children of the stable revision, of the candidate and of the routers; then a status that says so; then what routers are
told; and last, the objects of revisions that nobody sends requests to any more.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from diffusion_contract.agent_messages import RouterInstruction
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
    router_config,
    router_config_map,
)
from diffusion_operator.observe.service_history import RecordedRevision
from diffusion_operator.observe.service_world import ServiceWorld
from diffusion_operator.plan.plan import Event, ObjectReference, Plan
from diffusion_operator.plan.revision import (
    ResolvedModel,
    Rollout,
    Verdict,
    adopted,
    advance,
    resolve_model,
    short_model,
    target_revision,
)
from diffusion_operator.plan.service_keys import keys_problem
from diffusion_operator.plan.service_routing import (
    DRAIN_SECONDS,
    draining_seconds,
    instruction,
    leftovers,
    retired,
    routing_record,
)
from diffusion_operator.plan.service_status import service_status
from diffusion_operator.plan.service_verdict import Judgement, service_verdict
from diffusion_operator.plan.slow_creation import seconds_until_slow

LOOK_AGAIN_SECONDS = 15.0
"""When to look again for an object of somebody else's that is missing or bad: nobody tells us when it changes."""
AT_REST_SECONDS = 60.0
"""And when all is well, so that a Secret or claim that is broken or deleted later is named as well."""


@dataclass(frozen=True)
class _Decision:
    """What the parts of one pass have in common. `adopted` is a stable revision that the status had lost."""

    world: ServiceWorld
    owner: Owner
    model: ResolvedModel
    rollout: Rollout
    verdict: Verdict
    told: RouterInstruction
    router_image: str
    adopted: RecordedRevision | None


def decide_service(world: ServiceWorld, now: datetime) -> Plan:
    """The plan for one DiffusionService; total: whatever the API server can store, it answers."""
    found = adopted(world, now)
    if found is not None:
        world = replace(world, history=replace(world.history, stable=found))
    model = resolve_model(world, world.spec) if world.spec else ResolvedModel()
    target = target_revision(world, world.spec, model.reference) if world.spec and model.reference else None
    replicas = _replicas(world)
    rollout = advance(world, target, replicas, now) if world.spec else _as_recorded(world)
    case = Judgement(world, model, rollout, replicas, routing_record(world, rollout, replicas, now), now)
    verdict = service_verdict(case)
    owner = Owner(kind=KIND, name=world.name, namespace=world.namespace, uid=world.uid)
    told, router_image = instruction(owner, rollout.stable), _router_image(world, rollout)
    decision = _Decision(world, owner, model, rollout, verdict, told, router_image, found)
    return Plan(
        apply=_children(decision, world.spec) if world.spec else (),
        status=service_status(owner, case, verdict, told.routes, router_image),
        instructions={router.uid: told for router in world.routers} if rollout.stable else {},
        events=_events(decision),
        delete=_deletions(decision, now),
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
    """The ConfigMap names the routes that stand in the status already: routers may act on it at any time."""
    owner, operator = decision.owner, decision.world.operator
    stable = decision.rollout.stable
    serving = _recipe(decision, stable.revision) if stable else None
    sampling = serving.sampling if serving else spec.sampling
    stored = instruction(owner, decision.world.history.stable)
    return [
        router_config_map(owner, router_config(owner, sampling, stored), operator.agent_ca),
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
    if decision.adopted is not None:
        message = f"the status named no revision: revision {decision.adopted.revision}, which serves, is kept"
        events.append(Event("RevisionAdopted", message))
    if decision.model.training and decision.model.reference != history.resolved and decision.model.reference:
        message = f"DiffusionTraining {decision.model.training} published {decision.model.reference}"
        events.append(Event("ModelResolved", message))
    if rollout.candidate is not None and rollout.candidate != history.candidate:
        shown = f"revision {rollout.candidate.revision} with model {short_model(rollout.candidate.model)}"
        events.append(Event("RevisionStarting", f"starting {shown}"))
    if rollout.promoted and rollout.stable is not None:
        shown = f"revision {rollout.stable.revision} with model {short_model(rollout.stable.model)}"
        events.append(Event("RevisionServing", f"{shown} takes over"))
    if verdict.standing == "Stalled" and history.condition("Stalled") != ("True", verdict.reason):
        events.append(Event(verdict.reason, verdict.message, "Warning"))
    return tuple(events)


def _deletions(decision: _Decision, now: datetime) -> tuple[ObjectReference, ...]:
    namespace = decision.world.namespace
    return tuple(
        ObjectReference(found.api_version, found.kind, namespace, found.name, found.uid, found.resource_version)
        for found in retired(decision.world, decision.rollout, now)
    )


def _requeue(decision: _Decision, now: datetime) -> float:
    draining = draining_seconds(decision.world, decision.rollout, now)
    if leftovers(decision.world, decision.rollout) and draining > 0:
        return min(draining + 0.1, DRAIN_SECONDS)
    missing = decision.verdict.reason in ("ModelClaimNotFound", "WaitingForTraining")
    creating = [since for engines in decision.world.engines.values() for _, since in engines.creating]
    waits = [wait for since in creating if (wait := seconds_until_slow(since, now)) > 0]
    if missing or keys_problem(decision.world):
        waits.append(LOOK_AGAIN_SECONDS)
    return min(waits, default=AT_REST_SECONDS)
