"""What keeps workers from starting: each is a reason and a sentence with the remedy, and stops nobody who trains."""

from typing import Any

import pytest

from decided_trainings import IMAGE, JOBS, decided, kstatus, said
from diffusion_operator.observe.snapshot import Reference, Refusal
from world_builders import claim, job, pod, record, spec_with, training_status


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


def unplaced(message: str, name: str = "a", **more: Any) -> Any:
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, **more}]
    return pod(name, node="", phase="Pending", conditions=conditions)


@pytest.mark.parametrize(
    ("children", "expected"),
    [
        ((unplaced("no nodes"),), ("Pending", "Unschedulable", "pod a has no node: no nodes")),
        ((unplaced(""),), ("Pending", "Unschedulable", "pod a has no node: Unschedulable")),
        ((pod("a", node=""),), ("Pending", "Scheduling", "waiting until 1 of 2 workers have a node")),
    ],
    ids=["with a sentence", "without a sentence", "not looked at yet"],
)
def test_a_pod_without_a_node_is_not_starting(children: Any, expected: Any) -> None:
    assert said(decided(*JOBS, *children, status=training_status())) == expected


def test_a_pod_with_a_node_was_scheduled_whatever_an_old_condition_says() -> None:
    placed = unplaced("no nodes")
    placed["spec"]["nodeName"] = "n1"
    assert said(decided(*JOBS, placed, status=training_status()))[:2] == ("Starting", "Starting")


def test_a_scheduler_that_counts_again_causes_no_write_and_no_event() -> None:
    first = decided(*JOBS, unplaced("0/3 nodes are available: 3 Insufficient cpu"), status=training_status())
    for said_next in ("0/4 nodes are available: 4 Insufficient cpu", "0/12 nodes are available: 12 Insufficient cpu"):
        again = decided(*JOBS, unplaced(said_next), status=first.status)
        assert (again.status, again.events) == (first.status, ())
    other = decided(*JOBS, unplaced("0/3 nodes are available: 3 Insufficient memory"), status=first.status)
    assert "Insufficient memory" in said(other)[2]


def test_an_image_that_is_pulled_again_and_again_causes_no_write() -> None:
    def trying(reason: str, message: str) -> Any:
        return pod("a", waiting={"reason": reason, "message": message})

    first = decided(*JOBS, trying("ErrImagePull", "dial tcp 10.0.0.1:40122: refused"), status=training_status())
    for reason, message in (
        ("ImagePullBackOff", 'Back-off pulling image "nowhere:1": ErrImagePull: dial tcp 10.0.0.1:40122: refused'),
        ("ImagePullBackOff", 'Back-off pulling image "nowhere:1"'),
        ("ErrImagePull", "dial tcp 10.0.0.1:51964: refused"),
    ):
        again = decided(*JOBS, trying(reason, message), status=first.status)
        assert (again.status, again.events) == (first.status, ())


def test_one_fact_is_one_event() -> None:
    plan = decided(*JOBS, unplaced("no nodes"), status=training_status())
    assert [(one.type, one.reason, one.message) for one in plan.events] == [
        ("Warning", "Unschedulable", "pod a has no node: no nodes")
    ]


def records_of(*uids: str) -> tuple[Any, ...]:
    return tuple(record(uid, generation=1) for uid in uids)
