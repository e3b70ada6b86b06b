"""How a DiffusionService stands: one ordered chain of checks, of which the first that has something to say wins.

Its sentence is the message of the conditions, of the status and of the event.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from diffusion_contract.model_reference import parse_model_reference
from diffusion_operator.observe.creation_failures import refused
from diffusion_operator.observe.service_history import RecordedRevision, RecordedRouting
from diffusion_operator.observe.service_routers import RouterFacts
from diffusion_operator.observe.service_workloads import WorkloadFacts
from diffusion_operator.observe.service_world import ServiceWorld
from diffusion_operator.plan.conditions import kept
from diffusion_operator.plan.revision import ResolvedModel, Rollout, Verdict, short_model
from diffusion_operator.plan.service_keys import keys_problem, nobody_gets_in
from diffusion_operator.plan.service_routing import seekers, stragglers
from diffusion_operator.plan.slow_creation import is_slow, slow_sentence

_NOTHING = WorkloadFacts()
_REFUSED = ("QuotaExceeded", "WriteRefused")


@dataclass(frozen=True)
class Judgement:
    """All that a verdict depends on.

    `replicas` is the number of engine pods that the spec asks for. `routing`: that routers have moved to the stable
    revision; None until all have said so.
    """

    world: ServiceWorld
    model: ResolvedModel
    rollout: Rollout
    replicas: int
    routing: RecordedRouting | None
    now: datetime

    def engines(self, recorded: RecordedRevision | None) -> WorkloadFacts:
        """The workload of a revision; one without pods where it does not exist."""
        return self.world.engines.get(recorded.revision, _NOTHING) if recorded else _NOTHING

    def waits(self, engines: WorkloadFacts) -> str:
        """The half sentence about a pod that has no node, or whose container is slow to come; empty without one."""
        slow = next((pod for pod, since in engines.creating if is_slow(since, self.now)), "")
        if engines.waiting or not slow or self.world.spec is None:
            return f", {engines.waiting}" if engines.waiting else ""
        return f", {slow_sentence(slow, self.world.spec.template)}"

    @property
    def seekers(self) -> tuple[RouterFacts, ...]:
        """Routers that find no engine although there is to be one."""
        return seekers(self.world) if self.replicas > 0 else ()

    @property
    def goes_on(self) -> str:
        """The half sentence that says what is still served, empty where nothing is."""
        stable, target = self.rollout.stable, self.rollout.target
        if stable is None:
            return ""
        kept = stable.revision in self.world.recipes or (target is not None and target.digest == stable.revision)
        lost = "" if kept else ", but its ConfigMap was deleted: until it is replaced it is neither repaired nor scaled"
        return f"; revision {stable.revision} goes on serving{lost}"


def service_verdict(case: Judgement) -> Verdict:
    """How the service stands, by the first check that has something to say.

    What needs somebody's help comes before what is merely waited for, which would hide it. A candidate that starts is
    no wait of that kind: it may be the help.
    """
    checks: tuple[Callable[[Judgement], Verdict | None], ...] = (
        _spec_refused,
        _model_impossible,
        _claim_missing,
        _nobody_gets_in,
        _refused,
        _candidate_in_trouble,
        _router_in_trouble,
        _candidate_starting,
        _stable_in_trouble,
        _model_unknown,
        _router_not_ready,
        _engines_not_ready,
        _routers_behind,
        _scaled_to_zero,
    )
    found = next((verdict for check in checks if (verdict := check(case)) is not None), None)
    return found or _serving(case)


def _spec_refused(case: Judgement) -> Verdict | None:
    refused = case.world.refused
    return Verdict("Stalled", "InvalidSpec", f"{refused}{case.goes_on}") if refused else None


def _model_impossible(case: Judgement) -> Verdict | None:
    verdict = _model_unknown(case)
    return verdict if verdict and verdict.standing == "Stalled" else None


def _model_unknown(case: Judgement) -> Verdict | None:
    problem = case.model.problem
    return Verdict(problem.standing, problem.reason, f"{problem.message}{case.goes_on}") if problem else None


def _claim_missing(case: Judgement) -> Verdict | None:
    if not case.model.reference:
        return None
    claim = parse_model_reference(case.model.reference).claim
    if case.world.claims.get(claim, True):
        return None
    message = f"the claim {claim} of the model does not exist in this namespace: create it, or correct spec.model"
    return Verdict("Stalled", "ModelClaimNotFound", f"{message}{case.goes_on}")


def _nobody_gets_in(case: Judgement) -> Verdict | None:
    problem = keys_problem(case.world)
    if problem is None or not nobody_gets_in(case.world):
        return None
    return Verdict("Stalled", "KeysInvalid" if problem.reason == "Malformed" else problem.reason, problem.message)


def _refused(case: Judgement) -> Verdict | None:
    refusal = next(iter(case.world.refusals), None)
    if refusal is None:
        return None if case.world.has_applied else _stored_refusal(case)
    if refusal.is_read:
        message = f"the operator may not read the {refusal.kind} {refusal.name}: {refusal.message}{case.goes_on}"
        return Verdict("Stalled", "ReadRefused", message)
    reason, why = refused(refusal.message, "WriteRefused")
    message = f"the API server refuses the {refusal.kind} {refusal.name}: {why}{case.goes_on}"
    return Verdict("Stalled", reason, message)


def _stored_refusal(case: Judgement) -> Verdict | None:
    """An operator that has just started takes the stored word for a refusal, until it has tried itself."""
    history = case.world.history
    status, reason = history.condition("Stalled")
    return Verdict("Stalled", reason, history.message) if status == "True" and reason in _REFUSED else None


def _candidate_in_trouble(case: Judgement) -> Verdict | None:
    candidate, trouble = case.rollout.candidate, case.engines(case.rollout.candidate).trouble
    if candidate is None or trouble is None:
        return None
    message = f"revision {candidate.revision} cannot start: {trouble.message}{case.goes_on}"
    return Verdict("Stalled", trouble.reason, message)


def _candidate_starting(case: Judgement) -> Verdict | None:
    candidate, stable = case.rollout.candidate, case.rollout.stable
    if candidate is None:
        return None
    if case.replicas == 0 and stable is not None:
        return _candidate_unproven(candidate, stable)
    engines = case.engines(candidate)
    counted = f"{min(engines.available, case.replicas)} of {case.replicas} engine pods available"
    start = f"revision {candidate.revision} is starting: {counted}"
    message = f"{start}{case.waits(engines)}{case.goes_on}"
    return Verdict("Reconciling", "RevisionStarting", kept(message, case.world.history.message, start))


def _candidate_unproven(candidate: RecordedRevision, stable: RecordedRevision) -> Verdict:
    message = (
        f"revision {candidate.revision} has never been available, and replicas.min is 0: it takes over from revision "
        f"{stable.revision} when it has been, so set replicas.min to 1 or more for a while"
    )
    return Verdict("Reconciling", "CandidateUnproven", message)


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
    start = f"{engines.ready} of {case.replicas} engine pods ready"
    message = kept(f"{start}{case.waits(engines)}", case.world.history.message, start)
    return Verdict("Reconciling", "EnginesStarting", message)


def _routers_behind(case: Judgement) -> Verdict | None:
    """Ready is said only when a request would be answered: until then a router may know no engine to send it to."""
    stable = case.rollout.stable
    if stable is None or (case.routing is not None and not case.seekers):
        return None
    behind = case.seekers if case.routing else stragglers(case.world, stable.revision, case.replicas)
    names = ", ".join(router.name for router in behind) or "none is ready"
    message = f"revision {stable.revision} is up, and routers have yet to say that they send to it: {names}"
    return Verdict("Reconciling", "RoutersFollowing", message)


def _scaled_to_zero(case: Judgement) -> Verdict | None:
    if case.replicas > 0:
        return None
    return Verdict("Ready", "ScaledToZero", "replicas.min is 0: no engine runs and every request gets an error")


def _serving(case: Judgement) -> Verdict:
    stable = case.rollout.stable
    shown = f"model {short_model(stable.model)} as revision {stable.revision}" if stable else "nothing"
    return Verdict("Ready", "Serving", f"serving {shown} from {case.replicas} engine pod{'s' * (case.replicas != 1)}")
