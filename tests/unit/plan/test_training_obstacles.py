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
        "1 more wanted: pod b cannot pull its image: nothing is known about nowhere:1; "
        "set spec.workers.image, or correct the operator's image for trainers",
    )
    assert kstatus(plan) == "Current"


NO_PODS = "exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0"


def refused(note: str, time: str = "2026-01-01T11:59:50Z") -> Any:
    """An event in which the Job controller says why it made no pod, as the API server shows it."""
    return {"reason": "FailedCreate", "note": note, "deprecatedLastTimestamp": time, "deprecatedCount": 3}


def short(*children: Any, events: tuple[Any, ...], **facts: Any) -> Any:
    """The plan for a run whose base Job has fewer pods than it should."""
    facts = {"status": training_status(), "creation_failures": {"uid-job-base-1": events}} | facts
    return decided(job("base", active=0), job("spot", active=1), *children, **facts)


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (
            f'Error creating: pods "job-base-1-0-x7k2p" is forbidden: {NO_PODS}',
            ("Starting", "QuotaExceeded", f"{NO_PODS}; raise the ResourceQuota or ask for less"),
        ),
        (
            f'(combined from similar events): Error creating: pods "job-base-1-0-b4lzq" is forbidden: {NO_PODS}',
            ("Starting", "QuotaExceeded", f"{NO_PODS}; raise the ResourceQuota or ask for less"),
        ),
        (
            'Error creating: admission webhook "policy.example" denied the request: no team label',
            ("Starting", "Refused", 'admission webhook "policy.example" denied the request: no team label'),
        ),
    ],
    ids=["quota", "combined", "policy"],
)
def test_what_refuses_a_jobs_pods_is_told_in_its_own_words(note: str, expected: tuple[str, str, str]) -> None:
    plan = short(events=(refused("Error creating: older", "2026-01-01T11:59:00Z"), refused(note)))
    phase, reason, message = expected
    assert said(plan) == (phase, reason, f"Job job-base-1 cannot make its pods: {message}")
    assert kstatus(plan) == "Failed"


def test_a_job_without_pods_is_asked_about_again_and_nothing_is_claimed_without_an_event() -> None:
    plan = short(events=())
    assert (said(plan)[:2], plan.requeue_seconds) == (("Pending", "Creating"), 15)


def test_a_refusal_is_told_while_others_train() -> None:
    trains = {"status": training_status("b"), "records": (record("b", generation=1),)}
    plan = short(pod("b", pool="spot"), events=(refused(f"Error creating: {NO_PODS}"),), **trains)
    assert said(plan)[:2] == ("Running", "Training")
    assert said(plan)[2].startswith("1 of 2 workers train as generation 1; 1 more wanted: Job job-base-1 cannot make")
    assert plan.requeue_seconds == 15


def test_a_refusal_that_is_older_than_the_newest_pod_is_history() -> None:
    evicted = pod("a", exit_code=137, disruption="EvictionByEvictionAPI")
    evicted["metadata"]["creationTimestamp"] = "2026-01-01T11:59:55Z"
    assert said(short(evicted, events=(refused(f"Error creating: {NO_PODS}"),)))[1] != "QuotaExceeded"


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


def test_numbers_of_ours_and_of_a_quota_are_never_old_ones() -> None:
    first = decided(*JOBS, unplaced("0/3 nodes are available", "a-1"), status=training_status())
    assert said(decided(*JOBS, unplaced("0/3 nodes are available", "a-2"), status=first.status))[2].startswith(
        "pod a-2"
    )
    words = "exceeded quota: cpu, requested: limits.cpu={}, used: limits.cpu=0, limited: limits.cpu=32"
    stored = decided(status=training_status(), refusals=(Refusal("Job", "x", 403, words.format(64)),)).status
    edited = decided(status=stored, refusals=(Refusal("Job", "x", 403, words.format(48)),))
    assert "limits.cpu=48" in said(edited)[2]


def test_an_image_that_the_spec_names_is_to_be_corrected_there() -> None:
    plan = decided(*JOBS, pod("a", waiting=IMAGE), spec=spec_with(workers__image="nowhere:1"), status=training_status())
    assert said(plan)[2].endswith("; correct spec.workers.image, or add its spec.workers.template.imagePullSecrets")


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


def creating(placed: str) -> Any:
    """A pod whose node has been making its container since `placed`."""
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": placed}
    return pod("a", waiting={"reason": "ContainerCreating"}, conditions=[condition])


def test_a_container_that_is_not_made_for_long_is_said_with_what_its_volumes_need() -> None:
    volumes = [
        {"name": "c", "configMap": {"name": "settings"}},
        {"name": "s", "secret": {"secretName": "wallet"}},
        {"name": "o", "secret": {"secretName": "spare", "optional": True}},
        {"name": "e", "emptyDir": {}},
    ]
    facts: dict[str, Any] = {"spec": spec_with(workers__template={"volumes": volumes}), "status": training_status()}
    young = decided(job(active=1), creating("2026-01-01T11:59:20Z"), **facts)
    assert (said(young)[1], young.requeue_seconds) == ("Starting", 20)
    old = decided(job(active=1), creating("2026-01-01T11:59:00Z"), **facts)
    assert said(old) == (
        "Starting",
        "ContainerCreating",
        "the container of pod a is not made yet: its image is still being pulled, or a volume cannot be mounted "
        "(ConfigMap settings and Secret wallet must exist); `kubectl describe pod a` shows which",
    )
    assert (kstatus(old), old.requeue_seconds) == ("InProgress", None)


def test_a_slow_container_without_such_volumes_is_said_without_names() -> None:
    old = decided(job(active=1), creating("2026-01-01T11:00:00Z"), spec=spec_with(), status=training_status())
    assert said(old)[2].endswith("or a volume cannot be mounted; `kubectl describe pod a` shows which")
