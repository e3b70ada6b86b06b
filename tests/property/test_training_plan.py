"""decide for a DiffusionTraining: total on whatever can be stored, deterministic, at rest after its own writes."""

import copy
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffusion_operator.api.errors import SpecInvalid
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.observe.snapshot import Snapshot
from diffusion_operator.observe.training_world import observe_training, references
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from training_simulator import Simulator
from world_builders import (
    MINIMAL,
    NOW,
    OPERATOR,
    TWO_POOLS,
    custom_resource,
    job,
    node,
    pod,
    record,
    spec_with,
    training_status,
)

UIDS = ("a", "b", "c")
SLOW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=6) | st.floats(allow_nan=False, width=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def pods(draw: st.DrawFn, uid: str) -> dict[str, Any]:
    return pod(
        uid,
        attempt=draw(st.sampled_from([1, 2])),
        pool=draw(st.sampled_from(["base", "spot", "gone"])),
        node=draw(st.sampled_from(["n1", "n2", ""])),
        index=draw(st.integers(0, 2)),
        exit_code=draw(st.sampled_from([None, None, None, 0, 1, 64, 75, 93, 137])),
        message=draw(st.sampled_from(["", "trace", '{"reason":"X","message":"y","path":"spec.dataset"}'])),
        deleting=draw(st.booleans()),
        disruption=draw(st.sampled_from(["", "", "EvictionByEvictionAPI"])),
    )


@st.composite
def records(draw: st.DrawFn, uid: str) -> Any:
    return record(
        uid,
        connected=draw(st.booleans()),
        attempt=draw(st.sampled_from([1, 2])),
        state=draw(
            st.sampled_from(["Starting", "Ready", "Training", "Regrouping", "Publishing", "Leaving", "Finished"])
        ),
        generation=draw(st.integers(0, 3)),
        broken=draw(st.none() | st.integers(0, 3)),
        step=draw(st.none() | st.integers(-1, 30)),
        loss=draw(st.sampled_from([None, 0.5, float("nan"), float("inf")])),
        samples_per_second=draw(st.sampled_from([None, 0.0, -1.0, 5.0, float("inf")])),
        leaving=draw(st.booleans()),
    )


@st.composite
def statuses(draw: st.DrawFn) -> dict[str, Any] | None:
    if draw(st.booleans()):
        return None
    status = training_status(
        *draw(st.lists(st.sampled_from(UIDS), unique=True)),
        generation=draw(st.integers(0, 3)),
        attempt=draw(st.integers(0, 2)),
        rendezvous=draw(
            st.sampled_from([{}, {"stop": "Suspended", "stopSince": "2026-01-01T11:59:00Z"}, {"stop": "x"}])
        ),
        restarts=draw(st.sampled_from([{}, {"counted": 3, "disruptions": 1}])),
    )
    return status | {"phase": draw(st.sampled_from(["Running", "Succeeded", "Failed", "Odd"]))}


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[Snapshot, dict[str, Any]]:
    uids = draw(st.lists(st.sampled_from(UIDS), unique=True))
    jobs = [job(pool, attempt=attempt) for pool in ("base", "spot") for attempt in (1, 2) if draw(st.booleans())]
    nodes = {"n1": node(draw(st.sampled_from(["", "karpenter.sh/disrupted", "node.kubernetes.io/unreachable"])))}
    limits = {"cpu": draw(st.sampled_from(["1", 4, "1500m", "0", "1e99", "1e400", "9" * 32, "9" * 400, -1]))}
    small, tiny = spec_with(TWO_POOLS, workers__resources={"limits": limits}), spec_with(workers__min=0)
    spec = draw(st.sampled_from([small, tiny, MINIMAL, TWO_POOLS, spec_with(TWO_POOLS, suspend=True), {"nonsense": 1}]))
    raw = custom_resource(spec, draw(statuses()))
    said = {uid: draw(records(uid)) for uid in uids if draw(st.booleans())}
    return Snapshot(raw, OPERATOR, (*jobs, *(draw(pods(uid)) for uid in uids)), nodes), said


def decide(snapshot: Snapshot, said: dict[str, Any], seconds: float = 0) -> Plan:
    return decide_training(observe_training(snapshot, said), NOW + timedelta(seconds=seconds))


def stored(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The same facts after the plan's status has been written, through JSON as the API server would."""
    raw = dict(snapshot.custom_resource)
    return Snapshot(raw | {"status": copy.deepcopy(plan.status)}, OPERATOR, snapshot.children, snapshot.nodes)


@SLOW
@given(snapshots())
def test_the_same_facts_give_the_same_plan(given_facts: tuple[Snapshot, dict[str, Any]]) -> None:
    snapshot, said = given_facts
    raw = (snapshot.custom_resource, snapshot.children, dict(snapshot.nodes))
    before = copy.deepcopy(raw)
    assert decide(snapshot, said) == decide(snapshot, said)
    assert raw == before, "a pure room changed what it was given"


@SLOW
@given(snapshots())
def test_a_stored_status_is_soon_the_one_that_is_wanted(given_facts: tuple[Snapshot, dict[str, Any]]) -> None:
    snapshot, said = given_facts
    plan = decide(snapshot, said)
    for _ in range(8):
        if plan.status is None or plan.status == snapshot.custom_resource.get("status"):
            break
        snapshot = stored(snapshot, plan)
        plan = decide(snapshot, said)
    assert plan.status in (None, snapshot.custom_resource.get("status"))
    assert plan.events == ()
    again = decide(snapshot, said, seconds=0.01)
    assert (again.apply, again.status, again.instructions) == (plan.apply, plan.status, plan.instructions)


@SLOW
@given(snapshots())
def test_what_is_told_is_what_is_stored(given_facts: tuple[Snapshot, dict[str, Any]]) -> None:
    snapshot, said = given_facts
    plan = decide(snapshot, said)
    for told in plan.instructions.values():
        assert plan.status is not None
        rendezvous = plan.status["rendezvous"]
        assert told.kind == "trainer"
        assert (told.attempt, told.generation) == (plan.status["attempt"], plan.status["generation"])
        assert [one.model_dump(include={"uid", "address", "processes"}) for one in told.members] == [
            {key: one[key] for key in ("uid", "address", "processes")} for one in rendezvous["members"]
        ]
        assert told.master_address == rendezvous["masterAddress"] == rendezvous["members"][0]["address"]
        assert told.master_port == rendezvous["masterPort"]
        assert told.resume_step == rendezvous.get("resumeStep")
        assert told.stop == bool(rendezvous.get("stop"))
        assert list(told.leaving) == rendezvous.get("leaving", [])


@SLOW
@given(snapshots())
def test_counters_never_go_back_and_generations_hold_only_the_living(
    given_facts: tuple[Snapshot, dict[str, Any]],
) -> None:
    snapshot, said = given_facts
    facts = observe_training(snapshot, said)
    plan = decide(snapshot, said)
    if plan.status is None or facts.training is None or facts.history.terminal:
        return
    before, after = facts.history, plan.status
    assert after["attempt"] >= before.attempt
    assert 0 <= after["generation"] - before.rendezvous.generation <= 1
    assert after["restarts"]["counted"] >= before.counted
    assert after["restarts"]["disruptions"] >= before.disruptions
    if after["generation"] > before.rendezvous.generation:
        living = {worker.pod.uid for worker in facts.workers if not worker.pod.terminal}
        assert {member["uid"] for member in after["rendezvous"]["members"]} <= living


@SLOW
@given(snapshots())
def test_running_means_that_somebody_trains(given_facts: tuple[Snapshot, dict[str, Any]]) -> None:
    snapshot, said = given_facts
    plan = decide(snapshot, said)
    facts = observe_training(snapshot, said)
    if plan.status is None or facts.training is None or plan.status["phase"] != "Running":
        return
    living = {worker.pod.uid for worker in facts.workers if not worker.pod.terminal}
    assert living & {member["uid"] for member in plan.status["rendezvous"]["members"]}


@SLOW
@given(snapshots())
def test_nothing_is_destroyed_whose_attempt_is_not_over_in_the_stored_status(
    given_facts: tuple[Snapshot, dict[str, Any]],
) -> None:
    snapshot, said = given_facts
    facts = observe_training(snapshot, said)
    plan = decide(snapshot, said)
    deleted = {reference.name for reference in plan.delete}
    if not facts.history.terminal and deleted:
        wanted = {"base", "spot"} if snapshot.custom_resource["spec"].get("pools") else {"base"}
        kept = {one.name for one in facts.jobs if one.pool in wanted}
        assert not deleted & kept
    made = {one["metadata"]["labels"]["diffusion.dev/attempt"] for one in plan.apply if one["kind"] == "Job"}
    assert made <= {str(facts.history.attempt)}


@SLOW
@given(json_values, json_values, json_values)
def test_whatever_is_stored_nothing_raises(spec: Any, status: Any, extra: Any) -> None:
    raw = custom_resource({**MINIMAL, "x": extra} if isinstance(extra, dict) else spec)
    raw = {**raw, "status": status}
    references(raw)
    odd = [{"kind": kind, "metadata": extra, "spec": spec, "status": status} for kind in ("Job", "Pod")]
    snapshot = Snapshot(raw, OPERATOR, (*odd, job(), pod("a")), {"n1": {"spec": extra, "status": status}})
    decide(snapshot, {"a": record("a", state="Ready")})


ODD_TIMES: list[Any] = ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59Z", "yesterday", 7, None, ["x"], {}]


@SLOW
@given(snapshots(), st.sampled_from(ODD_TIMES))
def test_whatever_stands_where_a_time_should_nothing_raises(
    given_facts: tuple[Snapshot, dict[str, Any]], odd: Any
) -> None:
    snapshot, said = given_facts
    status = {
        **copy.deepcopy(snapshot.custom_resource.get("status") or {}),
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": odd} for kind in ("Ready", "Complete")],
        "restarts": {"counted": 3, "noProgress": 3, "lastCrashTime": odd, "nextAttemptTime": odd},
        "preemptions": [{"time": odd, "uid": uid, "generation": 1} for uid in UIDS],
    }
    status.setdefault("rendezvous", {})["stopSince"] = odd
    taken = {"n1": node("aws-node-termination-handler/spot-itn", time=odd if isinstance(odd, str) else "")}
    raw = {**snapshot.custom_resource, "status": status}
    decide(Snapshot(raw, OPERATOR, snapshot.children, taken), said)


@SLOW
@given(st.sampled_from(["workers", "checkpoint", "training", "pools", "dataset", "publish"]), json_values)
def test_a_spec_is_parsed_or_refused_with_a_path(field: str, value: Any) -> None:
    try:
        parse_training(custom_resource({**TWO_POOLS, field: value}))
    except SpecInvalid as refused:
        path, why = refused.path, refused.why
        assert path.startswith("spec")
        assert why


def test_at_rest_nothing_is_written() -> None:
    simulated = Simulator(spec_with(TWO_POOLS, training__targetSteps=10_000))
    simulated.run(10)
    for trainer in simulated.trainers.values():
        trainer.target = 0
    writes = simulated.writes
    for _ in range(600):
        simulated.tell()
        simulated.reconcile()
        simulated.now += timedelta(seconds=1)
    assert simulated.writes - writes <= 1, "only the newest progress may still be written, once"
