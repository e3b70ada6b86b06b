"""When an attempt is over, and that its Jobs go only when the next one is stored."""

import json
from datetime import timedelta
from typing import Any

import pytest

from decided_trainings import BOTH, COMMITTED, PAIR, said
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.children.job import training_job
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from world_builders import (
    NOW,
    OPERATOR,
    TWO_POOLS,
    claim,
    custom_resource,
    job,
    node,
    pod,
    record,
    spec_with,
    training_status,
    world,
)

CLAIM = claim("digits-checkpoints")
IDLE = (job("base", active=0), job("spot", active=0))


def plan_of(*children: Any, seconds: float = 0, **facts: Any) -> Plan:
    return decide_training(world(*children, **({"spec": TWO_POOLS} | facts)), NOW + timedelta(seconds=seconds))


def attempt(plan: Plan) -> int:
    assert plan.status is not None
    return int(plan.status["attempt"])


def start_of(plan: Plan) -> str | None:
    assert plan.status is not None
    told: str | None = plan.status["restarts"].get("nextAttemptTime")
    return told


def jobs(plan: Plan) -> list[str]:
    return [str(one["metadata"]["labels"]["diffusion.dev/attempt"]) for one in plan.apply if one["kind"] == "Job"]


def test_the_first_attempt_is_stored_before_its_jobs_are_made() -> None:
    first = plan_of(CLAIM)
    assert (attempt(first), jobs(first)) == (1, [])
    assert jobs(plan_of(CLAIM, status=first.status)) == ["1", "1"]


def test_a_disrupted_run_goes_on_at_once() -> None:
    gone = (*IDLE, pod("a", exit_code=75), pod("b", pool="spot", exit_code=137, disruption="DeletionByPodGC"))
    plan = plan_of(*gone, status=training_status("a", "b", generation=4))
    assert attempt(plan) == 2
    assert plan.status is not None
    assert plan.status["generation"] == 4
    assert "members" not in plan.status["rendezvous"] if "rendezvous" in plan.status else True
    assert (plan.delete, jobs(plan), plan.instructions) == ((), [], {})


def test_the_old_jobs_go_when_the_new_attempt_is_stored_and_the_new_ones_come_before() -> None:
    plan = plan_of(CLAIM, *IDLE, status=training_status(attempt=2))
    assert jobs(plan) == ["2", "2"]
    assert {one.name for one in plan.delete} == {"job-base-1", "job-spot-1"}
    assert plan.delete[0].resource_version == "7"


def test_after_a_crash_the_next_attempt_waits_a_little_longer_each_time() -> None:
    crashed = (CLAIM, *IDLE, pod("a", exit_code=1), pod("b", pool="spot", exit_code=75))
    ended = -30  # The pods ended 30 s before NOW.
    first = plan_of(*crashed, status=training_status("a", "b"), seconds=ended)
    assert (attempt(first), start_of(first), first.requeue_seconds) == (2, None, None)
    once = training_status("a", "b", restarts={"counted": 1})
    second = plan_of(*crashed, status=once, seconds=ended + 0.5)
    assert (attempt(second), start_of(second), second.requeue_seconds) == (2, "2026-01-01T11:59:31Z", 0.5)
    assert said(second)[1:] == ("RestartBackOff", "restart 2 of 10 waits a little, because every worker crashed")
    fifth = training_status("a", "b", restarts={"counted": 5})
    assert start_of(plan_of(*crashed, status=fifth, seconds=ended)) == "2026-01-01T11:59:46Z"
    many = training_status("a", "b", restarts={"counted": 50, "lastCrashTime": "2026-01-01T11:00:00Z"})
    policy = spec_with(TWO_POOLS, failurePolicy={"maxRestarts": 100})
    assert start_of(plan_of(*crashed, status=many, spec=policy, seconds=ended)) == "2026-01-01T12:00:30Z"


def test_while_an_attempt_waits_the_old_jobs_go_and_no_new_ones_come() -> None:
    crashed = (CLAIM, *IDLE, pod("a", exit_code=1), pod("b", pool="spot", exit_code=75))
    waiting = plan_of(*crashed, status=training_status("a", "b", restarts={"counted": 5}), seconds=-30)
    then = plan_of(*crashed, status=waiting.status, seconds=-29)
    assert {one.name for one in then.delete} == {"job-base-1", "job-spot-1"}
    assert (jobs(then), then.status, then.requeue_seconds) == ([], waiting.status, 15)
    assert jobs(plan_of(CLAIM, status=waiting.status, seconds=-14)) == ["2", "2"]


def test_a_start_that_nobody_can_wait_for_is_not_waited_for() -> None:
    far = training_status(restarts={"nextAttemptTime": "2099-01-01T00:00:00Z"})
    assert jobs(plan_of(CLAIM, status=far)) == ["1", "1"]


@pytest.mark.parametrize("end", [{"exit_code": 75}, {"phase": "Failed"}], ids=["run again", "refused by its node"])
def test_attempts_that_bring_nothing_wait_longer_each_time(end: Any) -> None:
    """A device that is taken, or a worker that leaves as soon as it came, would else be tried again without pause."""
    status, waits = training_status(), []
    for number in range(1, 10):
        ended = [pod(f"{pool}{number}", pool=pool, attempt=number, **end) for pool in ("base", "spot")]
        idle = [job(pool, attempt=number, active=0) for pool in ("base", "spot")]
        plan = plan_of(*idle, *ended, status=status)
        assert attempt(plan) == number + 1
        waits.append(plan.requeue_seconds)
        status = dict(plan.status or {})
    assert waits == [None, 1, 2, 4, 8, 16, 32, 60, 60]
    assert said(plan)[1:] == (
        "RestartBackOff",
        "attempt 10 waits a little, because the 9 before it brought no checkpoint",
    )
    committed = {"lastCommitted": COMMITTED | {"step": 7}}
    words = f'{{"reason":"RunAgain","committed":{json.dumps(committed["lastCommitted"])}}}'
    left = pod("a", attempt=10, exit_code=75, message=words)
    assert start_of(plan_of(job(attempt=10, active=0), left, status=status)) is None


def test_a_run_that_is_suspended_and_resumed_has_not_failed() -> None:
    stopped = training_status("a", rendezvous={"stop": "Suspended", "stopSince": "2026-01-01T11:59:59Z"})
    plan = plan_of(*IDLE, pod("a", exit_code=75), status=stopped | {"restarts": {"noProgress": 3}})
    assert (attempt(plan), start_of(plan)) == (2, None) or start_of(plan) == "2026-01-01T12:00:02Z"


def test_where_the_last_member_crashed_a_worker_that_is_coming_up_is_waited_for() -> None:
    status = training_status("a")
    starting = (job("base", active=0), job("spot", active=1), pod("a", exit_code=1), pod("b", pool="spot", node="n2"))
    plan = plan_of(*starting, status=status)
    assert attempt(plan) == 1
    assert said(plan) == ("Starting", "Starting", "waiting until 1 of 2 workers are ready")
    joined = plan_of(*starting, status=plan.status, records=(record("b", state="Ready"),))
    assert joined.status is not None
    assert [one["uid"] for one in joined.status["rendezvous"]["members"]] == ["b"]


@pytest.mark.parametrize(
    "lost", [{"exit_code": 1}, {"exit_code": 137, "disruption": "DeletionByTaintManager"}], ids=["crash", "preemption"]
)
def test_where_the_last_member_is_lost_a_worker_without_a_node_is_not_waited_for(lost: Any) -> None:
    children = (job("base", active=0), job("spot", active=1), pod("a", **lost), pod("b", pool="spot", node=""))
    plan = plan_of(*children, status=training_status("a"))
    assert attempt(plan) == 2
    assert said(plan)[0] == "Pending"
    unplaced = (job("base", attempt=2, active=1), pod("c", attempt=2, node=""))
    assert attempt(plan_of(*unplaced, status=plan.status)) == 2


@pytest.mark.parametrize(
    ("member", "nodes"),
    [((), {}), ((pod("a"),), {"n1": node("node.kubernetes.io/unreachable")})],
    ids=["its pod is gone", "its node does not answer"],
)
def test_nobody_goes_on_in_an_attempt_in_which_somebody_may_still_write(member: Any, nodes: Any) -> None:
    children = (job("base", active=len(member)), job("spot", active=1), *member, pod("b", pool="spot", node="n2"))
    plan = plan_of(*children, status=training_status("a"), records=(record("b", state="Ready"),), nodes=nodes)
    assert attempt(plan) == 2


def test_members_train_on_when_their_jobs_are_gone() -> None:
    plan = plan_of(CLAIM, *PAIR[2:], status=training_status("a", "b"), records=BOTH)
    assert plan.status is not None
    assert (attempt(plan), plan.status["phase"], jobs(plan)) == (1, "Running", ["1", "1"])
    assert (plan.status["restarts"]["disruptions"], set(plan.instructions)) == (0, {"a", "b"})


def test_a_target_that_was_raised_while_workers_finished_is_reached_by_the_next_attempt() -> None:
    raised = spec_with(TWO_POOLS, training__targetSteps=4000)
    words = json.dumps({"reason": "Finished", "step": 20, "committed": COMMITTED})
    complete = (job("base", succeeded=1), job("spot", active=1), pod("a", exit_code=0, message=words), pod("c"))
    plan = plan_of(*complete, status=training_status("a"), spec=raised, records=(record("c", state="Ready"),))
    assert plan.status is not None
    assert (attempt(plan), plan.status["phase"]) == (2, "Pending")
    assert plan.status["checkpoint"]["lastCommitted"]["step"] == 20
    unseen = plan_of(job("base", succeeded=1), job("spot", active=0), status=training_status("a"), spec=raised)
    assert attempt(unseen) == 2


def test_no_attempt_ends_while_a_survivor_lives() -> None:
    children = (*IDLE, pod("a", exit_code=1), pod("b", pool="spot"))
    assert attempt(plan_of(*children, status=training_status("a", "b"), records=BOTH[1:])) == 1


def test_no_attempt_ends_while_its_job_knows_of_a_pod_that_we_do_not_see() -> None:
    unseen = (job("base", active=1), pod("a", exit_code=75))
    assert attempt(plan_of(*unseen, status=training_status("a"))) == 1


@pytest.mark.parametrize("connected", [True, False])
def test_no_attempt_ends_between_a_workers_last_report_and_its_exit_code(connected: bool) -> None:
    only: dict[str, Any] = {"spec": spec_with(), "records": (record("a", state="Failed", connected=connected),)}
    failing = plan_of(job("base", active=1), pod("a"), status=training_status(), **only)
    assert attempt(failing) == 1
    words = '{"reason":"ConfigurationRefused","path":"spec.dataset.uri","message":"it is empty"}'
    ended = plan_of(job("base", active=0), pod("a", exit_code=64, message=words), status=failing.status, **only)
    assert ended.status is not None
    assert (attempt(ended), ended.status["phase"], ended.status["message"]) == (
        1, "Failed", "spec.dataset.uri: it is empty",
    )  # fmt: skip


def test_workers_that_crash_together_are_counted_before_the_next_attempt() -> None:
    silent = tuple(record(uid, state="Regrouping", generation=0, broken=1, step=7, connected=False) for uid in "ab")
    first = plan_of(*PAIR, status=training_status("a", "b"), records=silent)
    assert attempt(first) == 1
    ended = (*IDLE, pod("a", exit_code=139), pod("b", pool="spot", exit_code=139))
    second = plan_of(*ended, status=first.status, records=silent)
    assert second.status is not None
    assert (attempt(second), second.status["restarts"]["counted"]) == (2, 1)


def test_no_attempt_ends_before_its_pods_came() -> None:
    assert attempt(plan_of(*IDLE, status=training_status())) == 1


def test_a_dead_machine_with_the_only_worker_ends_the_attempt() -> None:
    dead = {"n1": node("node.kubernetes.io/unreachable")}
    silent = record("a", connected=False)
    plan = plan_of(job("base", active=1), pod("a"), status=training_status("a"), records=(silent,), nodes=dead)
    assert attempt(plan) == 2


def test_workers_that_only_wait_do_not_keep_an_attempt_on_a_node_that_goes() -> None:
    waiting = (job("base", active=1), pod("a"))
    nodes = {"n1": node("karpenter.sh/disrupted")}
    plan = plan_of(*waiting, status=training_status(), records=(record("a", state="Ready"),), nodes=nodes)
    assert attempt(plan) == 2


def test_a_job_of_an_older_operator_keeps_its_pods_as_they_are() -> None:
    parsed = parse_training(custom_resource(TWO_POOLS))
    pool = parsed.spec.effective_pools[0]
    older = training_job(parsed, pool, 1, "trainer:0", "https://elsewhere:8443")
    plan = plan_of(CLAIM, {**older, "status": {"active": 1}}, pod("a"), status=training_status("a"))
    (kept,) = [
        one for one in plan.apply if one["kind"] == "Job" and one["metadata"]["name"] == older["metadata"]["name"]
    ]
    assert kept["spec"]["template"] == older["spec"]["template"]
    assert attempt(plan) == 1


def test_a_job_is_sent_as_at_first_as_long_as_it_would_be_made_so() -> None:
    parsed = parse_training(custom_resource(TWO_POOLS))
    made = training_job(parsed, parsed.spec.effective_pools[0], 1, OPERATOR.trainer_image, OPERATOR.agent_url)
    template = made["spec"]["template"]
    added = {"batch.kubernetes.io/job-name": "j", "controller-uid": "u"}
    labels = {**template["metadata"]["labels"], **added}
    live = {"metadata": {"labels": labels}, "spec": {**template["spec"], "dnsPolicy": "ClusterFirst"}}
    seen = {**made, "spec": {**made["spec"], "template": live}, "status": {"active": 1}}
    for spec, wanted in (
        (TWO_POOLS, template),
        (spec_with(TWO_POOLS, workers__image="other:2"), {**live, "metadata": template["metadata"]}),
    ):
        plan = plan_of(CLAIM, seen, pod("a"), status=training_status("a"), spec=spec)
        sent = next(one for one in plan.apply if one["metadata"]["name"] == made["metadata"]["name"])
        assert sent["spec"]["template"] == wanted
        assert sent["metadata"]["annotations"] == made["metadata"]["annotations"]


def test_workers_that_do_not_leave_when_told_are_given_up_after_three_minutes() -> None:
    stopped = training_status("a", "b", rendezvous={"stop": "Suspended", "stopSince": "2026-01-01T11:58:00Z"})
    spec = spec_with(TWO_POOLS, suspend=True)
    soon = plan_of(*PAIR, status=stopped, records=BOTH, spec=spec)
    assert (attempt(soon), soon.requeue_seconds) == (1, 60)
    assert attempt(plan_of(*PAIR, status=stopped, records=BOTH, spec=spec, seconds=60)) == 2


def test_a_suspended_run_has_no_jobs_and_an_untouched_one_none_either() -> None:
    spec = spec_with(TWO_POOLS, suspend=True)
    assert jobs(plan_of(CLAIM, spec=spec, status=training_status())) == []
    gone = plan_of(CLAIM, *IDLE, spec=spec, status=training_status(attempt=2))
    assert {one.name for one in gone.delete} == {"job-base-1", "job-spot-1"}


def test_a_pool_without_workers_has_no_job() -> None:
    spec = spec_with(TWO_POOLS, workers__max=1, pools=[{"name": "base", "replicas": 1}, {"name": "spot", "max": 0}])
    plan = plan_of(CLAIM, *PAIR, spec=spec, status=training_status("a", "b"), records=BOTH)
    assert len(jobs(plan)) == 1
    assert [one.name for one in plan.delete] == ["job-spot-1"]


def test_the_job_is_resized_and_not_replaced() -> None:
    bigger = spec_with(workers__max=3)
    plan = plan_of(CLAIM, job("base", active=1), pod("a"), spec=bigger, status=training_status("a"))
    (resized,) = [one for one in plan.apply if one["kind"] == "Job"]
    assert (resized["spec"]["parallelism"], resized["spec"]["completions"]) == (3, 3)
    assert attempt(plan) == 1


def test_a_job_whose_label_was_removed_is_left_alone() -> None:
    lost = job("base")
    del lost["metadata"]["labels"]["diffusion.dev/attempt"]
    assert plan_of(lost, status=training_status(attempt=2)).delete == ()
