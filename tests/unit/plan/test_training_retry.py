"""The annotation `diffusion.dev/retry`: a failed run begins once more, and nothing else heeds it."""

from typing import Any

import pytest

from decided_trainings import BOTH, COMMITTED, JOBS, PAIR, conditions, decided, said, status_of
from diffusion_operator.observe.snapshot import Snapshot
from diffusion_operator.observe.training_world import observe_training
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from world_builders import NOW, OPERATOR, TWO_POOLS, custom_resource, job, node, pod, record, spec_with, training_status

CRASHED = (*JOBS, pod("a", exit_code=1), pod("b", pool="spot", node="n2", exit_code=1))


def asked(value: str | None, *children: Any, status: Any, spec: Any = TWO_POOLS, records: Any = ()) -> Plan:
    """The plan for a run that carries the annotation with this value."""
    raw = dict(custom_resource(spec, status))
    annotations = {} if value is None else {"diffusion.dev/retry": value}
    raw["metadata"] = {**raw["metadata"], "annotations": annotations}
    nodes = {name: node() for name in ("n1", "n2")}
    known = {one.pod_uid: one for one in records}
    return decide_training(observe_training(Snapshot(raw, OPERATOR, children, nodes), known), NOW)


def failed(value: str | None = None) -> Any:
    """The status of a run that has just failed, with the annotation as it was then."""
    before = training_status("a", "b", restarts={"counted": 10, "disruptions": 3}, checkpoint={"lastCommitted": OLD})
    status = status_of(asked(value, *CRASHED, status=before))
    assert (status["phase"], status["restarts"]["counted"]) == ("Failed", 11)
    return status


OLD = COMMITTED | {"step": 7}


def test_a_failed_run_begins_once_more_with_counters_that_begin_afresh() -> None:
    plan = asked("1", *CRASHED, status=failed())
    status = status_of(plan)
    assert (status["attempt"], status["retry"], status["restarts"]) == (2, "1", {"counted": 0, "disruptions": 3})
    assert said(plan) == ("Pending", "Creating", "workers are being created")
    assert "Failed" not in conditions(plan)
    assert status["checkpoint"]["lastCommitted"]["step"] == 7
    assert [one.reason for one in plan.events] == ["AskedOnceMore"]
    assert (plan.delete, plan.apply) == ((), ())


def test_the_next_look_makes_the_new_attempt_and_ends_the_old() -> None:
    again = status_of(asked("1", *CRASHED, status=failed()))
    plan = asked("1", *CRASHED, status=again)
    assert status_of(plan)["phase"] == "Pending"
    assert {one.name for one in plan.delete} == {"job-base-1", "job-spot-1"}


def test_the_same_value_asks_once_and_another_one_again() -> None:
    status = {**failed(), "retry": "1"}
    assert asked("1", status=status).status is None
    assert status_of(asked("2", status=status))["attempt"] == 2


@pytest.mark.parametrize("value", [None, ""])
def test_no_value_asks_for_nothing(value: str | None) -> None:
    assert asked(value, status=failed()).status is None


def test_a_value_that_stood_there_before_the_failure_asks_for_nothing() -> None:
    status = failed("1")
    assert status["retry"] == "1"
    assert asked("1", *CRASHED, status=status).status is None


def test_it_does_nothing_for_a_run_that_trains_or_has_succeeded() -> None:
    trains = asked("1", *PAIR, status=training_status("a", "b"), records=BOTH)
    without = decided(*PAIR, status=training_status("a", "b"), records=BOTH)
    assert status_of(trains) == status_of(without) | {"retry": "1"}
    done = training_status(checkpoint={"lastCommitted": COMMITTED}) | {"phase": "Succeeded", "observedGeneration": 1}
    assert asked("1", status=done).status is None


def test_a_spec_that_cannot_be_used_is_not_begun_once_more_and_says_why() -> None:
    nonsense = spec_with(TWO_POOLS, nonsense=1)
    plan = asked("1", status=failed(), spec=nonsense)
    told = conditions(plan)["RetryRefused"]
    assert (told["status"], told["reason"]) == ("True", "InvalidSpec")
    assert "spec.nonsense: Extra inputs are not permitted" in told["message"]
    assert [(one.reason, one.message) for one in plan.events] == [("InvalidSpec", told["message"])]
    assert status_of(plan)["phase"] == "Failed"
    again = asked("1", status=plan.status, spec=nonsense)
    assert (again.status, again.events) == (None, ()), "it is said once"
    begun = asked("1", status=plan.status)
    assert status_of(begun)["attempt"] == 2, "with a spec that can be used the request holds"
    assert "RetryRefused" not in conditions(begun)
    taken_back = asked(None, status=plan.status, spec=nonsense)
    assert "RetryRefused" not in conditions(taken_back)


def test_a_refused_configuration_is_tried_again_when_it_is_asked_for() -> None:
    refused = (job("base"), pod("a", exit_code=64))
    status = status_of(asked(None, *refused, status=training_status("a"), records=(record("a"),)))
    assert status["phase"] == "Failed"
    again = asked("now", *refused, status=status)
    assert (status_of(again)["phase"], status_of(asked("now", *refused, status=again.status))["phase"]) == (
        "Pending",
        "Pending",
    )
