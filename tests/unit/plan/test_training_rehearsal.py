"""Other workers are rehearsed before the present ones are told to leave."""

from typing import Any

import pytest

from decided_trainings import COMMITTED, conditions, kstatus, said
from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.children.job import training_job
from diffusion_operator.plan.plan import Plan, manifest_digest
from diffusion_operator.plan.training import decide_training
from training_disturbances import edit
from training_simulator import Simulator
from world_builders import NOW, OPERATOR, TWO_POOLS, custom_resource, pod, record, spec_with, training_status, world

OLD = spec_with(workers__resources={"limits": {"cpu": "1"}})
NEW = spec_with(workers__resources={"limits": {"cpu": "2"}})
ALONE = (pod("a"),)
WHY = 'PATCH /apis/batch/v1/namespaces/team/jobs/x: Job.batch "x" is invalid: spec.template: must be less'


def job_of(spec: dict[str, Any], attempt: int = 1) -> dict[str, Any]:
    parsed = parse_training(custom_resource(spec))
    made = training_job(parsed, parsed.spec.effective_pools[0], attempt, OPERATOR.trainer_image, OPERATOR.agent_url)
    return {**made, "status": {"active": 1}}


def plan_of(answer: str | None, *, spec: Any = NEW, pods: Any = ALONE, **facts: Any) -> Plan:
    """The plan for a run made from OLD; `answer` is the API server's to the Job of the next attempt, None without."""
    following = {name: part for name, part in job_of(spec, 2).items() if name != "status"}
    rehearsals = {} if answer is None else {manifest_digest(following): answer}
    common = {"status": training_status("a"), "records": (record("a", generation=1),), "rehearsals": rehearsals}
    return decide_training(world(job_of(OLD), *pods, spec=spec, **common | facts), NOW)


def status_of(plan: Plan) -> Any:
    assert plan.status is not None
    return plan.status


def stops(plan: Plan) -> list[bool]:
    """Whether each worker is told to leave."""
    told = [one for one in plan.instructions.values() if isinstance(one, TrainerInstruction)]
    return [one.stop for one in told]


def test_nobody_leaves_before_the_api_server_was_asked() -> None:
    plan = plan_of(None)
    (asked,) = plan.rehearse
    assert asked["metadata"]["labels"]["diffusion.dev/attempt"] == "2"
    assert asked["spec"]["template"]["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "2"}}
    assert said(plan) == (
        "Running",
        "TryingWorkers",
        "before workers leave for those that spec.workers and spec.pools ask for, it is found out whether these can "
        "start; meanwhile 1 of 1 workers train as generation 1",
    )
    assert kstatus(plan) == "InProgress", "the edit is not carried out yet"
    assert stops(plan) == [False]


def test_what_it_would_take_stops_the_workers_and_then_makes_new_jobs() -> None:
    plan = plan_of("")
    assert status_of(plan)["rendezvous"]["stop"] == "WorkersChanged"
    assert stops(plan) == [True]
    left = plan_of(None, pods=(pod("a", exit_code=75),), status=plan.status)
    assert (status_of(left)["attempt"], left.rehearse) == (2, ())


def test_what_it_would_refuse_is_told_while_the_run_goes_on() -> None:
    plan = plan_of(WHY)
    assert said(plan) == (
        "Running",
        "WorkersRefused",
        "the API server refuses the workers that spec.workers and spec.pools ask for: "
        'Job.batch "x" is invalid: spec.template: must be less; correct them; '
        "meanwhile 1 of 1 workers train as generation 1",
    )
    assert kstatus(plan) == "Failed"
    assert [(event.reason, event.type) for event in plan.events] == [("WorkersRefused", "Warning")]
    assert stops(plan) == [False]
    assert plan.requeue_seconds == 10
    assert len(plan.rehearse) == 1, "it is asked again, when the refusal is old"
    again = plan_of(WHY, status=plan.status)
    assert (again.status, again.events) == (plan.status, ())


def test_a_correcting_edit_is_rehearsed_anew_and_one_back_needs_no_rehearsal() -> None:
    refused = plan_of(WHY).status
    corrected = plan_of(None, spec=spec_with(NEW, workers__resources={"limits": {"cpu": "3"}}), status=refused)
    assert len(corrected.rehearse) == 1
    back = plan_of(None, spec=OLD, status=refused)
    assert (back.rehearse, conditions(back)["Stalled"]["status"]) == ((), "False")


@pytest.mark.parametrize(
    "answer",
    [
        'jobs.batch "x" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: 1, limited: 1',
        "admission webhook does not support dry run",
    ],
)
def test_a_quota_that_old_jobs_use_and_a_webhook_that_cannot_be_asked_hold_nobody_back(answer: str) -> None:
    assert status_of(plan_of(answer))["rendezvous"]["stop"] == "WorkersChanged"


def test_workers_that_do_not_train_yet_are_replaced_after_a_rehearsal_too() -> None:
    waiting: dict[str, Any] = {"status": training_status(), "records": ()}
    assert status_of(plan_of(WHY, **waiting))["attempt"] == 1
    assert status_of(plan_of("", **waiting))["attempt"] == 2


def test_a_suspended_run_and_one_that_has_ended_rehearse_nothing() -> None:
    assert plan_of(None, spec=spec_with(NEW, suspend=True)).rehearse == ()
    done = training_status("a", checkpoint={"lastCommitted": COMMITTED})
    assert plan_of(None, pods=(pod("a", exit_code=0),), status=done).rehearse == ()


def test_a_worker_of_the_old_kind_joins_with_the_processes_that_it_was_started_with() -> None:
    started = pod("a")
    started["spec"]["containers"] = [{"name": "trainer", "env": [{"name": "DIFFUSION_PROCESSES", "value": "4"}]}]
    more = spec_with(NEW, workers__processesPerWorker=2)
    ready = {"status": training_status(), "records": (record("a", state="Ready"),)}
    (member,) = status_of(plan_of(WHY, spec=more, pods=(started,), **ready))["rendezvous"]["members"]
    assert member["processes"] == 4


def test_a_run_survives_an_edit_that_the_api_server_refuses_and_takes_the_corrected_one() -> None:
    simulated = Simulator(spec_with(TWO_POOLS, training__targetSteps=10_000))
    simulated.run(8)
    simulated.refused = WHY
    edit(simulated, workers__image="bad:1")
    simulated.run(30)
    assert (simulated.status["attempt"], simulated.status["worldSize"]) == (1, 2)
    assert "bad:1" not in str(simulated.objects)
    simulated.refused = ""
    edit(simulated, workers__image="good:1")
    simulated.run(30)
    assert (simulated.status["attempt"], simulated.status["phase"]) == (2, "Running")
    assert "good:1" in str(simulated.objects)
