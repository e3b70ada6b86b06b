"""Another image is tried before the workers that train are told to leave for it."""

from datetime import timedelta
from typing import Any

import pytest

from decided_trainings import conditions, kstatus, said
from diffusion_contract.names import ATTEMPT_LABEL
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.children.image_trial import image_trial
from diffusion_operator.children.job import training_job
from diffusion_operator.observe.snapshot import Refusal
from diffusion_operator.plan.plan import Plan, manifest_digest
from diffusion_operator.plan.timestamps import to_timestamp
from diffusion_operator.plan.training import decide_training
from training_disturbances import edit
from training_simulator import Simulator
from world_builders import (
    NOW,
    OPERATOR,
    TWO_POOLS,
    custom_resource,
    pod,
    record,
    spec_with,
    training_status,
    world,
)

OLD = spec_with(workers__image="old:1")
NEW = spec_with(workers__image="new:2", workers__template={"imagePullSecrets": [{"name": "key"}]})
NOT_FOUND = {"reason": "ErrImagePull", "message": "new:2: not found"}
NO_COMMAND = 'exec: "--version": executable file not found in $PATH'
BACK_OFF = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "new:2"'}


def job_of(spec: dict[str, Any], attempt: int) -> dict[str, Any]:
    parsed = parse_training(custom_resource(spec))
    return training_job(parsed, parsed.spec.effective_pools[0], attempt, OPERATOR.trainer_image, OPERATOR.agent_url)


def trial_of(spec: dict[str, Any] = NEW, age: int = 0) -> dict[str, Any]:
    parsed = parse_training(custom_resource(spec))
    made = image_trial(parsed, parsed.spec.effective_pools[0], OPERATOR.trainer_image)
    created = to_timestamp(NOW - timedelta(seconds=age))
    seen = {"uid": "trial-uid", "resourceVersion": "9", "creationTimestamp": created}
    return {**made, "metadata": {**made["metadata"], **seen}}


def trying(node: str = "n2", **status: Any) -> dict[str, Any]:
    """The pod of the trial."""
    made, trial = pod("t", node=node, **status), trial_of()
    labels = {**trial["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": name_of(trial)}
    return {**made, "metadata": {**made["metadata"], "labels": labels}}


def name_of(child: Any) -> str:
    return str(child["metadata"]["name"])


def plan_of(*children: Any, taken: bool = True, spec: Any = NEW, now: Any = NOW, **facts: Any) -> Plan:
    """The plan for a run of OLD whose spec is NEW now; `taken`: the API server would take the next attempt's Job."""
    rehearsals = {manifest_digest(job_of(spec, 2)): ""} if taken else {}
    common = {"status": training_status("a"), "records": (record("a", generation=1),), "rehearsals": rehearsals}
    running = {**job_of(OLD, 1), "status": {"active": 1}}
    return decide_training(world(running, pod("a"), *children, spec=spec, **common | facts), now)


def status_of(plan: Plan) -> Any:
    assert plan.status is not None
    return plan.status


def trials(plan: Plan) -> list[str]:
    return [name_of(one) for one in plan.apply if "diffusion.dev/role" in one["metadata"]["labels"]]


def leave(plan: Plan) -> bool:
    return bool(status_of(plan)["rendezvous"].get("stop") == "WorkersChanged")


def test_a_trial_is_made_once_the_api_server_would_take_the_workers_and_nobody_leaves_before_its_answer() -> None:
    assert trials(plan_of(taken=False)) == []
    plan = plan_of()
    assert trials(plan) == [name_of(trial_of())]
    for waiting in (plan, plan_of(trial_of()), plan_of(trial_of(), trying(phase="Pending"))):
        assert not leave(waiting)
        assert (said(waiting)[:2], kstatus(waiting)) == (("Running", "TryingWorkers"), "InProgress")


@pytest.mark.parametrize("status", [{}, {"exit_code": 0}, {"exit_code": 2}, {"exit_code": 137, "ended": "OOMKilled"}])
def test_they_leave_once_its_container_has_started_however_it_ends(status: dict[str, Any]) -> None:
    plan = plan_of(trial_of(), trying(**status))
    assert leave(plan)
    after = plan_of(trial_of(), trying(**status), status=plan.status)
    assert (trials(after), [one.name for one in after.delete]) == ([], [name_of(trial_of())])


@pytest.mark.parametrize(
    ("waiting", "reason", "words"),
    [
        (NOT_FOUND, "ImagePull", "new:2: not found; correct spec.workers.image, or add its spec.workers.template"),
        ({"reason": "CreateContainerError", "message": "no entry point"}, "ContainerNotStarted", "no entry point"),
    ],
)
def test_an_image_that_cannot_be_had_is_told_while_the_run_goes_on(waiting: Any, reason: str, words: str) -> None:
    plan = plan_of(trial_of(), trying(waiting=waiting))
    assert not leave(plan)
    phase, why, message = said(plan)
    assert (phase, why, kstatus(plan)) == ("Running", reason, "Failed")
    assert words in message
    assert message.endswith("; meanwhile 1 of 1 workers train as generation 1")
    assert [(event.reason, event.type) for event in plan.events] == [(reason, "Warning")]
    assert conditions(plan)["Scheduled"]["status"] == "True", "all who train have their nodes"
    old = plan_of(trial_of(age=3600), trying(waiting=waiting), status=plan.status)
    assert (old.status, old.events, old.delete) == (plan.status, (), ())


def test_between_two_tries_the_cause_stays() -> None:
    stored = plan_of(trial_of(), trying(waiting=NOT_FOUND)).status
    assert plan_of(trial_of(), trying(waiting=BACK_OFF), status=stored).status == stored


def test_an_image_whose_command_cannot_be_begun_is_told_while_the_run_goes_on_from_try_to_try() -> None:
    ended = trying(exit_code=128, ended="StartError", message=NO_COMMAND)
    plan = plan_of(trial_of(), ended)
    assert not leave(plan)
    phase, why, message = said(plan)
    assert (phase, why, kstatus(plan)) == ("Running", "ContainerNotStarted", "Failed")
    assert f"the container cannot be started: {NO_COMMAND}; correct spec.workers.image: it has to be an" in message
    another = trying(phase="Pending", waiting={"reason": "ContainerCreating"})
    another["metadata"] |= {"name": "u", "uid": "u", "creationTimestamp": to_timestamp(NOW)}
    after = plan_of(trial_of(), ended, another, status=plan.status)
    assert (after.status, after.events, after.delete) == (plan.status, (), ())
    begun = {**another, "status": {"phase": "Running"}}
    assert leave(plan_of(trial_of(), ended, begun, status=plan.status))


def test_a_restarted_operator_keeps_the_trial() -> None:
    plan = plan_of(trial_of(), trying(waiting=NOT_FOUND), taken=False)
    assert (plan.delete, leave(plan), trials(plan)) == ((), False, [name_of(trial_of())])


def test_taken_back_the_edit_leaves_nothing_behind_and_another_image_is_another_trial() -> None:
    stuck = (trial_of(), trying(waiting=NOT_FOUND))
    stored = plan_of(*stuck).status
    back = plan_of(*stuck, spec=OLD, status=stored)
    assert [one.name for one in back.delete] == [name_of(trial_of())]
    assert (said(back)[1], kstatus(back), leave(back)) == ("Training", "Current", False)
    other = spec_with(NEW, workers__image="new:3")
    corrected = plan_of(*stuck, spec=other, status=stored)
    assert (trials(corrected), leave(corrected)) == ([name_of(trial_of(other))], False)
    assert [one.name for one in corrected.delete] == [name_of(trial_of())]
    suspended = plan_of(*stuck, spec=spec_with(NEW, suspend=True), status=stored)
    assert [one.name for one in suspended.delete] == [name_of(trial_of())]


@pytest.mark.parametrize("lost", [(), ("n2",), ("",)], ids=["no pod", "a pod that its node gave back", "no node"])
def test_a_trial_that_finds_no_node_holds_nobody_up_for_long(lost: tuple[str, ...]) -> None:
    pods = [trying(node, phase="Failed" if node else "Pending") for node in lost]
    young = plan_of(trial_of(age=50), *pods)
    assert (leave(young), young.requeue_seconds) == (False, 10)
    assert leave(plan_of(trial_of(age=60), *pods))


def test_a_trial_that_is_refused_holds_nobody_up() -> None:
    refusal = Refusal("Job", name_of(trial_of()), 403, "exceeded quota: few, requested: count/jobs.batch=1")
    assert leave(plan_of(refusals=(refusal,)))


def test_a_pull_takes_as_long_as_it_takes() -> None:
    assert not leave(plan_of(trial_of(age=3600), trying(phase="Pending")))


def test_the_image_of_other_resources_or_of_a_run_where_nobody_trains_is_not_tried() -> None:
    more = spec_with(OLD, workers__resources={"limits": {"cpu": "2"}})
    assert (trials(plan_of(spec=more)), leave(plan_of(spec=more))) == ([], True)
    waiting = plan_of(status=training_status(), records=())
    assert (trials(waiting), status_of(waiting)["attempt"]) == ([], 2)


def test_after_the_end_no_trial_stays() -> None:
    done = training_status("a") | {"phase": "Succeeded"}
    assert name_of(trial_of()) in [one.name for one in plan_of(trial_of(), status=done).delete]


def test_a_trial_is_no_worker_and_takes_nothing_from_one() -> None:
    template = trial_of()["spec"]["template"]
    labels, spec = template["metadata"]["labels"], template["spec"]
    assert ATTEMPT_LABEL not in labels
    (container,) = spec["containers"]
    assert (container["image"], container["args"], container["name"]) == ("new:2", ["--version"], "trainer")
    assert spec["imagePullSecrets"] == [{"name": "key"}]
    assert not {"volumes", "subdomain", "topologySpreadConstraints"} & spec.keys()
    gpus = spec_with(NEW, workers__resources={"limits": {"nvidia.com/gpu": "1"}})
    assert "nvidia.com/gpu" not in str(trial_of(gpus))


def test_a_run_survives_an_image_that_is_nowhere_and_takes_the_corrected_one() -> None:
    simulated = Simulator(spec_with(TWO_POOLS, training__targetSteps=10_000))
    simulated.run(8)
    edit(simulated, workers__image="nowhere:1")
    simulated.run(100)
    status = simulated.status
    assert (status["attempt"], status["worldSize"], status["phase"]) == (1, 2, "Running")
    at_rest = simulated.writes
    simulated.run(30)
    assert simulated.log[at_rest:] == ["status"] * (simulated.writes - at_rest), "progress, and nothing else"
    edit(simulated, workers__image="good:1")
    simulated.run(30)
    assert (simulated.status["attempt"], simulated.status["phase"]) == (2, "Running")
    assert "good:1" in str(simulated.objects)
    assert not [name for kind, name in simulated.objects if kind == "Job" and "-image-" in name]
