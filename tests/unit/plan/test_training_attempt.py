"""When an attempt is over, and that its Jobs go only when the next one is stored."""

from datetime import timedelta
from typing import Any

import pytest

from decided_trainings import BOTH, PAIR
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.children.job import training_job
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from world_builders import (
    NOW,
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
    crashed = (*IDLE, pod("a", exit_code=1), pod("b", pool="spot", exit_code=75))
    ended = -30  # The pods ended 30 s before NOW.
    assert attempt(plan_of(*crashed, status=training_status("a", "b"), seconds=ended)) == 2
    once = training_status("a", "b", restarts={"counted": 1})
    second = plan_of(*crashed, status=once, seconds=ended + 0.5)
    assert (attempt(second), second.requeue_seconds) == (1, 0.5)
    assert second.status is not None
    assert second.status["message"] == "restart 2 of 10 waits a little, because every worker crashed"
    assert attempt(plan_of(*crashed, status=once, seconds=ended + 1)) == 2
    fifth = training_status("a", "b", restarts={"counted": 5})
    assert attempt(plan_of(*crashed, status=fifth, seconds=ended + 15)) == 1
    assert attempt(plan_of(*crashed, status=fifth, seconds=ended + 16)) == 2


def test_no_attempt_ends_while_a_survivor_lives() -> None:
    children = (*IDLE, pod("a", exit_code=1), pod("b", pool="spot"))
    assert attempt(plan_of(*children, status=training_status("a", "b"), records=BOTH[1:])) == 1


def test_no_attempt_ends_while_its_job_knows_of_a_pod_that_we_do_not_see() -> None:
    unseen = (job("base", active=1), pod("a", exit_code=75))
    assert attempt(plan_of(*unseen, status=training_status("a"))) == 1


@pytest.mark.parametrize("connected", [True, False])
def test_no_attempt_ends_between_a_workers_last_report_and_its_exit_code(connected: bool) -> None:
    only = {"spec": spec_with(), "records": (record("a", state="Failed", connected=connected),)}
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
    assert (attempt(second), second.status["restarts"]["counted"]) in ((1, 2), (2, 2))


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


def test_another_image_stops_the_workers_and_then_makes_new_jobs() -> None:
    spec = spec_with(workers__image="old:1")
    parsed = parse_training(custom_resource(spec))
    made = training_job(parsed, parsed.spec.effective_pools[0], 1, "trainer:1", "https://agents:8443")
    live = {**made, "status": {"active": 1}}
    changed = spec_with(workers__image="new:2")
    facts = {"spec": changed, "status": training_status("a"), "records": (record("a", generation=1),)}
    plan = plan_of(live, pod("a"), **facts)
    assert plan.status is not None
    assert plan.status["rendezvous"]["stop"] == "WorkersChanged"
    assert [one.stop for one in plan.instructions.values()] == [True]
    left = plan_of(live, pod("a", exit_code=75), spec=changed, status=plan.status)
    assert attempt(left) == 2


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
