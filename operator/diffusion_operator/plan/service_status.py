"""The status of a DiffusionService: one ordered chain of checks gives the verdict, and everything else is counted.

The first check that has something to say wins. Its sentence is the message of the conditions, of the status and of the
event.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from diffusion_contract.agent_messages import Route
from diffusion_contract.model_reference import parse_model_reference
from diffusion_operator.children.metadata import Owner
from diffusion_operator.children.service_names import engine_selector, router_url
from diffusion_operator.observe.service_history import RecordedRevision
from diffusion_operator.observe.service_workloads import WorkloadFacts
from diffusion_operator.observe.service_world import ServiceWorld
from diffusion_operator.plan.conditions import Condition, ready, reconciling, stalled, stamped
from diffusion_operator.plan.revision import ResolvedModel, Rollout, Verdict, short_model

_KSTATUS = {"Ready": ready, "Reconciling": reconciling, "Stalled": stalled}
_NOTHING = WorkloadFacts()


@dataclass(frozen=True)
class Judgement:
    """All that a verdict depends on. `replicas` is the number of engine pods that the spec asks for."""

    world: ServiceWorld
    model: ResolvedModel
    rollout: Rollout
    replicas: int

    def engines(self, recorded: RecordedRevision | None) -> WorkloadFacts:
        """The workload of a revision; one without pods where it does not exist."""
        return self.world.engines.get(recorded.revision, _NOTHING) if recorded else _NOTHING

    @property
    def goes_on(self) -> str:
        """The half sentence that says what is still served, empty where nothing is."""
        stable = self.rollout.stable
        return f"; revision {stable.revision} goes on serving" if stable else ""


def service_verdict(case: Judgement) -> Verdict:
    """How the service stands, by the first check that has something to say."""
    checks: tuple[Callable[[Judgement], Verdict | None], ...] = (
        _spec_refused,
        _model_unknown,
        _claim_missing,
        _keys_missing,
        _write_refused,
        _candidate_in_trouble,
        _candidate_starting,
        _router_in_trouble,
        _stable_in_trouble,
        _router_not_ready,
        _engines_not_ready,
        _scaled_to_zero,
    )
    found = next((verdict for check in checks if (verdict := check(case)) is not None), None)
    return found or _serving(case)


def _spec_refused(case: Judgement) -> Verdict | None:
    refused = case.world.refused
    return Verdict("Stalled", "InvalidSpec", f"{refused}{case.goes_on}") if refused else None


def _model_unknown(case: Judgement) -> Verdict | None:
    problem = case.model.problem
    return Verdict(problem.standing, problem.reason, f"{problem.message}{case.goes_on}") if problem else None


def _claim_missing(case: Judgement) -> Verdict | None:
    claim = parse_model_reference(case.model.reference).claim
    if case.world.claims.get(claim, True):
        return None
    message = f"the claim {claim} of the model does not exist in this namespace: create it, or correct spec.model"
    return Verdict("Stalled", "ModelClaimNotFound", f"{message}{case.goes_on}")


def _keys_missing(case: Judgement) -> Verdict | None:
    spec = case.world.spec
    name = spec.auth.keys_ref.name if spec else ""
    entry = "with one entry for each key, its value sha256:HEX of the key"
    if case.world.keys_found is False:
        message = f"the Secret {name} of auth.keysRef does not exist: create it {entry}"
        return Verdict("Stalled", "KeysNotFound", message)
    if case.world.keys_found and case.world.keys == 0:
        return Verdict("Stalled", "KeysEmpty", f"the Secret {name} of auth.keysRef has no entries: fill it {entry}")
    return None


def _write_refused(case: Judgement) -> Verdict | None:
    refusal = next(iter(case.world.refusals), None)
    if refusal is None:
        return None
    reason = "QuotaExceeded" if "exceeded quota" in refusal.message else "WriteRefused"
    message = f"the API server refuses the {refusal.kind} {refusal.name}: {refusal.message}{case.goes_on}"
    return Verdict("Stalled", reason, message)


def _candidate_in_trouble(case: Judgement) -> Verdict | None:
    candidate, trouble = case.rollout.candidate, case.engines(case.rollout.candidate).trouble
    if candidate is None or trouble is None:
        return None
    message = f"revision {candidate.revision} cannot start: {trouble.message}{case.goes_on}"
    return Verdict("Stalled", trouble.reason, message)


def _candidate_starting(case: Judgement) -> Verdict | None:
    candidate = case.rollout.candidate
    if candidate is None:
        return None
    engines = case.engines(candidate)
    counted = f"{min(engines.available, case.replicas)} of {case.replicas} engine pods available"
    waiting = f", {engines.waiting}" if engines.waiting else ""
    message = f"revision {candidate.revision} is starting: {counted}{waiting}{case.goes_on}"
    return Verdict("Reconciling", "RevisionStarting", message)


def _router_in_trouble(case: Judgement) -> Verdict | None:
    trouble = case.world.router.trouble if case.world.router else None
    return Verdict("Stalled", trouble.reason, f"the routers cannot start: {trouble.message}") if trouble else None


def _stable_in_trouble(case: Judgement) -> Verdict | None:
    engines = case.engines(case.rollout.stable)
    if engines.trouble is None or engines.ready >= case.replicas:
        return None
    message = f"{engines.ready} of {case.replicas} engine pods ready: {engines.trouble.message}"
    return Verdict("Stalled", engines.trouble.reason, message)


def _router_not_ready(case: Judgement) -> Verdict | None:
    router = case.world.router or _NOTHING
    if router.ready > 0:
        return None
    return Verdict("Reconciling", "RouterStarting", "no router pod is ready yet")


def _engines_not_ready(case: Judgement) -> Verdict | None:
    engines = case.engines(case.rollout.stable)
    if engines.serves(case.replicas) and engines.current <= case.replicas:
        return None
    waiting = f", {engines.waiting}" if engines.waiting else ""
    message = f"{engines.ready} of {case.replicas} engine pods ready{waiting}"
    return Verdict("Reconciling", "EnginesStarting", message)


def _scaled_to_zero(case: Judgement) -> Verdict | None:
    if case.replicas > 0:
        return None
    return Verdict("Ready", "ScaledToZero", "replicas.min is 0: no engine runs and every request gets an error")


def _serving(case: Judgement) -> Verdict:
    stable = case.rollout.stable
    shown = f"model {short_model(stable.model)} as revision {stable.revision}" if stable else "nothing"
    return Verdict("Ready", "Serving", f"serving {shown} from {case.replicas} engine pods")


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
    message = f"revision {stable.revision} answers with model {short_model(stable.model)}"
    return Condition("Available", "True", "RevisionServing", message)


def service_status(
    case: Judgement, verdict: Verdict, routes: tuple[Route, ...], router_image: str, now: datetime
) -> dict[str, Any]:
    """The whole status. `routes` are what routers will be told once it is stored."""
    world, rollout = case.world, case.rollout
    owner = Owner(kind="DiffusionService", name=world.name, namespace=world.namespace, uid=world.uid)
    conditions = (*_KSTATUS[verdict.standing](verdict.reason, verdict.message), available(case))
    status: dict[str, Any] = {
        "observedGeneration": world.generation,
        "conditions": stamped(conditions, world.history.conditions, world.generation, now),
        "message": verdict.message,
        "url": router_url(owner),
        "replicas": _replicas(case),
        "selector": engine_selector(owner),
        "router": {"image": router_image, "ready": world.router.ready if world.router else 0},
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
