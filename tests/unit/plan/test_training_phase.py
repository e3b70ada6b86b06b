"""The phase of a run, its reason and its sentence, for each line of the checklist; and what kstatus reads from it."""

from typing import Any

import pytest

from diffusion_operator.observe.snapshot import Reference, Refusal
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from world_builders import (
    MINIMAL,
    NOW,
    TWO_POOLS,
    claim,
    job,
    node,
    pod,
    record,
    spec_with,
    training_status,
    world,
)

DIGEST = "sha256:" + "c" * 64
COMMITTED = {"step": 20, "digest": DIGEST, "time": "2026-01-01T11:00:00Z"}
PUBLISHED = {"reference": f"pvc://digits-models/digits@{DIGEST}", "digest": DIGEST, "step": 20}
JOBS = (job("base", active=1), job("spot", active=1))
PAIR = (*JOBS, pod("a"), pod("b", pool="spot", node="n2"))
BOTH = (record("a", generation=1, step=7), record("b", generation=1, step=7))


def decided(*children: Any, **facts: Any) -> Plan:
    return decide_training(world(*children, **({"spec": TWO_POOLS} | facts)), NOW)


def said(plan: Plan) -> tuple[str, str, str]:
    assert plan.status is not None
    conditions = {one["type"]: one for one in plan.status["conditions"]}
    return plan.status["phase"], conditions["Ready"]["reason"], plan.status["message"]


def kstatus(plan: Plan) -> str:
    """As kstatus computes it."""
    assert plan.status is not None
    conditions = {one["type"]: one["status"] for one in plan.status["conditions"]}
    if conditions["Stalled"] == "True":
        return "Failed"
    return "InProgress" if conditions["Reconciling"] == "True" or conditions["Ready"] != "True" else "Current"


IMAGE = {"reason": "ErrImagePull", "message": "nothing is known about nowhere:1"}
UNPLACED = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
CASES = {
    "new": ((), {}, "Pending", "Creating", "workers are being created", "InProgress"),
    "pods come up": (
        PAIR,
        {"status": training_status()},
        "Starting",
        "Starting",
        "waiting until 1 of 2 workers are ready",
        "InProgress",
    ),
    "no such image": (
        (*JOBS, pod("a", waiting=IMAGE)),
        {"status": training_status()},
        "Starting",
        "ImagePull",
        "pod a cannot pull its image: nothing is known about nowhere:1",
        "Failed",
    ),
    "no node": (
        (*JOBS, pod("a", node="", phase="Pending", conditions=[UNPLACED])),
        {"status": training_status()},
        "Pending",
        "Unschedulable",
        "pod a has no node: 0/2 nodes are available",
        "InProgress",
    ),
    "trains": (
        PAIR,
        {"status": training_status("a", "b"), "records": BOTH},
        "Running",
        "Training",
        "2 of 2 workers train as generation 1",
        "Current",
    ),
    "a member's node is noticed": (
        PAIR,
        {
            "status": training_status("a", "b"),
            "records": BOTH,
            "nodes": {"n2": node("cloud.google.com/impending-node-termination")},
        },
        "Draining",
        "WorkersLeaving",
        "b saves and leaves; 1 of 2 workers train as generation 2",
        "InProgress",
    ),
    "a member died": (
        (*JOBS, pod("a"), pod("b", pool="spot", node="n2", exit_code=1)),
        {"status": training_status("a", "b"), "records": BOTH},
        "Resizing",
        "Regrouping",
        "b is leaving: it ended with exit code 1; 1 of 2 workers train as generation 2",
        "InProgress",
    ),
    "to be suspended": (
        PAIR,
        {"status": training_status("a", "b"), "records": BOTH, "spec": spec_with(TWO_POOLS, suspend=True)},
        "Draining",
        "Suspending",
        "workers save and leave, because spec.suspend is true",
        "InProgress",
    ),
    "suspended": (
        (),
        {
            "status": training_status(checkpoint={"lastCommitted": COMMITTED | {"step": 7}}),
            "spec": spec_with(suspend=True),
        },
        "Suspended",
        "Suspended",
        "spec.suspend is true; the newest checkpoint is of step 7",
        "Current",
    ),
    "publishes": (
        PAIR,
        {"status": training_status("a", "b"), "records": (record("a", state="Publishing", generation=1), BOTH[1])},
        "Publishing",
        "Publishing",
        "the target step is committed, and its model version is being written",
        "InProgress",
    ),
    "target committed": (
        PAIR,
        {"status": training_status("a", "b", checkpoint={"lastCommitted": COMMITTED}), "records": BOTH},
        "Succeeded",
        "TargetReached",
        "step 20 is committed",
        "Current",
    ),
    "published": (
        PAIR,
        {
            "spec": spec_with(TWO_POOLS, publish={"claim": {"size": "1Gi"}}),
            "status": training_status("a", "b", checkpoint={"lastCommitted": COMMITTED}, published=PUBLISHED),
        },
        "Succeeded",
        "Published",
        f"step 20 is committed and published as {PUBLISHED['reference']}",
        "Current",
    ),
    "configuration refused": (
        (
            *JOBS,
            pod("a", exit_code=64, message='{"reason":"DatasetMissing","message":"no file","path":"spec.dataset.uri"}'),
        ),
        {"status": training_status()},
        "Failed",
        "DatasetMissing",
        "spec.dataset.uri: no file",
        "Failed",
    ),
    "do not retry": (
        (*JOBS, pod("a", exit_code=93)),
        {"status": training_status()},
        "Failed",
        "DoNotRetry",
        "pod a ended with exit code 93 and left no message",
        "Failed",
    ),
    "the Job remembers what its pod said": (
        (job("base", conditions=[{"type": "Failed", "status": "True", "message": "exit code 64 matched"}]),),
        {"status": training_status()},
        "Failed",
        "JobFailed",
        "Job job-base-1 failed: exit code 64 matched",
        "Failed",
    ),
    "too many crashes": (
        (*JOBS, pod("a", exit_code=1, message='{"reason":"Crash","message":"out of ideas"}')),
        {"status": training_status("a", restarts={"counted": 10})},
        "Failed",
        "TooManyRestarts",
        "workers crashed 11 times, and failurePolicy.maxRestarts is 10: "
        "the last worker ended with exit code 1 (out of ideas)",
        "Failed",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_phase_reason_and_message(case: str) -> None:
    children, facts, phase, reason, message, health = CASES[case]
    plan = decided(*children, **facts)
    assert said(plan) == (phase, reason, message)
    assert kstatus(plan) == health


def test_a_claim_that_does_not_exist_is_named() -> None:
    spec = spec_with(checkpoint__storage={"existingClaim": "mine"})
    missing = {Reference("v1", "PersistentVolumeClaim", "team", "mine"): None}
    plan = decided(spec=spec, status=training_status(), referenced=missing)
    assert said(plan) == (
        "Starting",
        "ClaimNotFound",
        "the PersistentVolumeClaim mine does not exist in namespace team: create it",
    )
    assert kstatus(plan) == "Failed"


def test_an_obstacle_to_the_last_worker_stops_nobody() -> None:
    children = (*JOBS, pod("a"), pod("b", pool="spot", waiting=IMAGE))
    plan = decided(*children, status=training_status("a"), records=(record("a", generation=1),))
    assert said(plan) == (
        "Running",
        "Training",
        "1 of 2 workers train as generation 1; "
        "1 more wanted: pod b cannot pull its image: nothing is known about nowhere:1",
    )
    assert kstatus(plan) == "Current"


def test_a_job_that_may_make_no_pods_is_said_after_a_while() -> None:
    young, old = job("base", active=0), job("base", active=0)
    young["metadata"]["creationTimestamp"] = "2026-01-01T11:59:50Z"
    old["metadata"]["creationTimestamp"] = "2026-01-01T11:59:30Z"
    assert said(decided(young, status=training_status()))[1] == "Creating"
    assert decided(young, status=training_status()).requeue_seconds == 15
    phase, reason, message = said(decided(old, status=training_status()))
    assert (phase, reason) == ("Starting", "PodsNotCreated")
    assert message.startswith("Job job-base-1 could make 0 of 1 pods: a ResourceQuota or an admission policy")


def test_a_refused_spec_touches_nothing_that_runs() -> None:
    status = training_status("a", "b", conditions=[{"type": "Scheduled", "status": "True"}])
    plan = decided(*PAIR, status=status, records=BOTH, spec=spec_with(TWO_POOLS, nonsense=1))
    assert said(plan) == ("Running", "InvalidSpec", "spec.nonsense: Extra inputs are not permitted")
    assert kstatus(plan) == "Failed"
    assert (plan.apply, plan.delete) == ((), ())
    assert plan.status is not None
    assert plan.status["rendezvous"] == status["rendezvous"]
    assert set(plan.instructions) == {"a", "b"}
    assert [one.message for one in plan.events] == ["spec.nonsense: Extra inputs are not permitted"]


def test_a_refused_spec_is_said_once() -> None:
    spec = spec_with(MINIMAL, nonsense=1)
    first = decided(spec=spec)
    again = decided(spec=spec, status=first.status)
    assert (again.status, again.events) == (first.status, ())
    assert first.status is not None
    assert first.status["phase"] == "Pending"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_end_absorbs(phase: str) -> None:
    status = training_status("a", "b") | {"phase": phase, "observedGeneration": 1}
    plan = decided(*PAIR, status=status, records=BOTH)
    assert (plan.status, plan.apply, plan.instructions) == (None, (), {})
    assert {one.name for one in plan.delete} == {"job-base-1", "job-spot-1"}


def test_workers_that_reached_the_target_end_by_themselves() -> None:
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T11:59:50Z"}
    status = training_status() | {"phase": "Succeeded", "conditions": [complete]}
    spare = decided(*PAIR, status=status, records=(BOTH[0],))
    assert [one.name for one in spare.delete] == ["job-spot-1"]
    complete["lastTransitionTime"] = "2026-01-01T11:59:00Z"
    assert {one.name for one in decided(*PAIR, status=status, records=BOTH).delete} == {"job-base-1", "job-spot-1"}


def test_a_job_that_has_ended_keeps_its_logs() -> None:
    ended = job("base", conditions=[{"type": "Complete", "status": "True"}])
    assert decided(ended, status=training_status() | {"phase": "Succeeded"}).delete == ()


def test_an_edit_after_the_end_is_noted_and_nothing_else() -> None:
    ready = {"type": "Ready", "status": "True", "observedGeneration": 0}
    status = training_status() | {"phase": "Succeeded", "observedGeneration": 0, "conditions": [ready]}
    plan = decided(status=status)
    assert plan.status == status | {"observedGeneration": 1, "conditions": [ready | {"observedGeneration": 1}]}
    assert [one.reason for one in plan.events] == ["RunHasEnded"]
    assert decided(status=plan.status).status is None


def test_a_claim_that_is_somebody_elses_is_not_written_to() -> None:
    why = "PersistentVolumeClaim digits-checkpoints exists and belongs to somebody else: rename or delete it"
    taken = Refusal("PersistentVolumeClaim", "digits-checkpoints", 409, why)
    plan = decided(status=training_status(), refusals=(taken,))
    assert said(plan) == ("Starting", "Refused", why)
    assert not [one for one in plan.apply if one["kind"] == "Job"]
    made = decided(claim("digits-checkpoints"), status=training_status())
    assert len([one for one in made.apply if one["kind"] == "Job"]) == 2


def test_a_quota_that_says_no_is_told_in_its_own_words() -> None:
    words = 'jobs.batch "x" is forbidden: exceeded quota: none, requested: count/jobs.batch=1, used: 0, limited: 0'
    refused = Refusal("Job", "x", 403, f"PATCH /apis/batch/v1/namespaces/team/jobs/x: {words}")
    plan = decided(claim("digits-checkpoints"), status=training_status(), refusals=(refused,))
    assert said(plan) == ("Starting", "QuotaExceeded", f"{words}; raise the ResourceQuota or ask for less")
    assert kstatus(plan) == "Failed"


def test_a_job_that_has_lost_a_pod_is_in_its_back_off_and_not_refused() -> None:
    old = job("spot", active=0)
    old["metadata"]["creationTimestamp"] = "2026-01-01T11:00:00Z"
    said_by = records_of("a")
    left = pod("job-spot-1-0", pool="spot", exit_code=75)
    seen = decided(old, pod("a"), left, status=training_status("a"), records=said_by)
    assert said(seen)[2] == "1 of 2 workers train as generation 1"
    gone = [{"time": "2026-01-01T11:30:00Z", "pod": "job-spot-1-0-x", "uid": "u", "generation": 1}]
    later = decided(old, pod("a"), status=training_status("a", preemptions=gone), records=said_by)
    assert said(later)[2] == "1 of 2 workers train as generation 1"


def records_of(*uids: str) -> tuple[Any, ...]:
    return tuple(record(uid, generation=1) for uid in uids)
