"""Generations that get nowhere: a frozen peer is left behind, and nobody is said to train who tells of no step."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from decided_trainings import COMMITTED, PAIR, kstatus, said, status_of
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from world_builders import NOW, TWO_POOLS, claim, record, spec_with, training_status, world


def told(uid: str, **report: Any) -> AgentRecord:
    return record(uid, **({"generation": 1, "step": 7} | report))


FROZEN = replace(told("b"), connected=False)


def after(seconds: float, *records: AgentRecord, listening: bool = False, **changes: Any) -> Plan:
    """The plan so long after the newest step."""
    spec = spec_with(TWO_POOLS, **changes)
    seen = world(*PAIR, claim("digits-checkpoints"), spec=spec, status=training_status("a", "b"), records=records)
    if listening:
        seen = replace(seen, operator=replace(seen.operator, listening_since=NOW))
    return decide_training(seen, NOW + timedelta(seconds=seconds))


def members(plan: Plan) -> list[str]:
    return [one["uid"] for one in status_of(plan)["rendezvous"]["members"]]


@pytest.mark.parametrize(("seconds", "left"), [(59, ["a", "b"]), (60, ["a"])])
def test_a_silent_peer_is_left_behind_once_the_others_stand_still(seconds: float, left: list[str]) -> None:
    plan = after(seconds, told("a"), FROZEN)
    assert members(plan) == left
    assert "leaving" not in status_of(plan)["rendezvous"], (
        "it is dropped without notice, so the others break its connections off"
    )
    if len(left) == 2:
        assert plan.requeue_seconds is not None
        assert plan.requeue_seconds <= 60 - seconds


def test_without_enough_others_what_they_have_is_saved_and_new_workers_come() -> None:
    plan = after(60, told("a"), FROZEN, workers__min=2)
    assert (members(plan), status_of(plan)["rendezvous"]["stop"]) == (["a"], "TooFewWorkers")


def test_a_silent_peer_stays_while_the_others_make_steps() -> None:
    assert members(after(3600, replace(told("a"), advanced=NOW + timedelta(seconds=3550)), FROZEN)) == ["a", "b"]


def test_slow_steps_are_given_their_time() -> None:
    slow = told("a", samples_per_second=0.5)  # 64 samples a step: two minutes for each
    assert members(after(500, slow, FROZEN)) == ["a", "b"]
    assert members(after(513, slow, FROZEN)) == ["a"]


@pytest.mark.parametrize("records", [(told("a"), told("b")), (replace(told("a"), connected=False), FROZEN)])
def test_who_tells_of_no_step_is_not_said_to_train(records: tuple[AgentRecord, ...]) -> None:
    assert said(after(59, *records))[0] == "Running"
    plan = after(61, *records)
    phase, reason, message = said(plan)
    assert (phase, reason, kstatus(plan)) == ("Resizing", "NoProgress", "InProgress")
    assert message.startswith("no worker has told of a step for more than a minute")
    assert ("does not hear a, b" in message) == (not records[0].connected)
    assert members(plan) == ["a", "b"], "silence alone changes nothing"


def test_an_operator_that_has_just_started_takes_it_for_running_only_for_a_while() -> None:
    assert said(after(59, listening=True))[0] == "Running"
    assert said(after(61, listening=True))[:2] == ("Resizing", "NoProgress")


@pytest.mark.parametrize("report", [{"state": "Publishing", "step": 20}, {"step": 20, "committed": COMMITTED}])
def test_after_the_last_step_no_more_are_waited_for(report: dict[str, Any]) -> None:
    assert said(after(600, told("a", **report), told("b", **report)))[1] != "NoProgress"
