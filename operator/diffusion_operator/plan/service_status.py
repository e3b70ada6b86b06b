"""The status of a DiffusionService: the verdict as conditions, and everything else counted."""

from typing import Any

from diffusion_contract.agent_messages import Route
from diffusion_operator.children.metadata import Owner
from diffusion_operator.children.service_names import engine_selector, router_url
from diffusion_operator.observe.service_history import RecordedRevision
from diffusion_operator.observe.service_workloads import WorkloadFacts
from diffusion_operator.plan.conditions import MESSAGE_LIMIT, Condition, kstatus, stamped
from diffusion_operator.plan.revision import Verdict, short_model
from diffusion_operator.plan.service_keys import keys_problem
from diffusion_operator.plan.service_verdict import Judgement

_NOTHING = WorkloadFacts()


def available(case: Judgement) -> Condition:
    """Whether requests are answered now, whatever else is under way."""
    stable, router = case.rollout.stable, case.world.router or _NOTHING
    engines = case.engines(stable)
    if stable is None:
        return Condition("Available", "False", "NothingToServe", "no revision has been ready yet")
    if engines.ready == 0:
        return Condition("Available", "False", "NoEngineReady", f"revision {stable.revision} has no ready engine pod")
    if router.ready == 0:
        return Condition("Available", "False", "NoRouterReady", "no router pod is ready")
    if case.routing is None and case.world.history.condition("Available")[0] != "True":
        message = f"no router has said yet that it sends to revision {stable.revision}"
        return Condition("Available", "False", "RoutersFollowing", message)
    if case.seekers:
        names = ", ".join(router.name for router in case.seekers)
        message = f"routers have not found the engines of revision {stable.revision} yet: {names}"
        return Condition("Available", "False", "RoutersFollowing", message)
    message = f"revision {stable.revision} answers with model {short_model(stable.model)}"
    return Condition("Available", "True", "RevisionServing", message)


def service_status(
    owner: Owner, case: Judgement, verdict: Verdict, routes: tuple[Route, ...], router_image: str
) -> dict[str, Any]:
    """The whole status. `routes` are what routers will be told once it is stored."""
    world, rollout = case.world, case.rollout
    invalid = keys_problem(world)
    conditions = (
        *kstatus(verdict.standing, verdict.reason, verdict.message),
        available(case),
        *((invalid,) if invalid else ()),
    )
    status: dict[str, Any] = {
        "observedGeneration": world.generation,
        "conditions": stamped(conditions, world.history.conditions, world.generation, case.now),
        "message": verdict.message[:MESSAGE_LIMIT],
        "url": router_url(owner),
        "replicas": _replicas(case),
        "selector": engine_selector(owner),
        "router": _router(case, router_image),
    }
    optional = {
        "model": _model(case),
        "stable": _revision(rollout.stable),
        "candidate": _revision(rollout.candidate),
        "routes": [route.to_wire() for route in routes],
    }
    return status | {key: value for key, value in optional.items() if value}


def _model(case: Judgement) -> dict[str, str] | None:
    """A resolution, once made, stays through a spec that cannot be read, because it cannot be made again the same."""
    history = case.world.history
    reference = case.model.reference or (history.resolved if case.world.refused else "")
    training = case.model.training or (history.training if case.world.refused else "")
    if not reference:
        return None
    return {"reference": reference} | ({"training": training} if training else {})


def _router(case: Judgement, image: str) -> dict[str, Any]:
    router, routing = case.world.router, case.routing
    shown = {"image": image, "ready": router.ready if router else 0}
    return shown | ({"revision": routing.revision, "since": routing.since} if routing else {})


def _revision(recorded: RecordedRevision | None) -> dict[str, str] | None:
    if recorded is None:
        return None
    shown = {
        "revision": recorded.revision,
        "model": recorded.model,
        "shortDigest": short_model(recorded.model),
        "image": recorded.image,
        "since": recorded.since,
    }
    return {key: value for key, value in shown.items() if value}


def _replicas(case: Judgement) -> dict[str, Any]:
    stable, candidate = case.engines(case.rollout.stable), case.engines(case.rollout.candidate)
    return {
        "desired": case.replicas,
        "stable": stable.current,
        "candidate": candidate.current,
        "ready": stable.ready,
        "display": f"{stable.ready}/{case.replicas}",
    }
