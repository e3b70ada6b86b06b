"""What an operator makes of a run that it finds: it has heard nobody yet, and has written nothing."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from decided_trainings import BOTH, JOBS, PAIR, decided, said, status_of
from diffusion_operator.observe.snapshot import Refusal
from diffusion_operator.plan.plan import Plan
from diffusion_operator.plan.training import decide_training
from world_builders import NOW, TWO_POOLS, claim, pod, record, training_status, world

NO_JOBS = 'jobs.batch "x" is forbidden: exceeded quota: none, requested: count/jobs.batch=1, used: 0, limited: 0'
REFUSED = Refusal("Job", "x", 403, NO_JOBS)


def test_a_stored_refusal_stands_until_something_was_applied() -> None:
    seen = (claim("digits-checkpoints"),)
    told = decided(*seen, status=training_status(), refusals=(REFUSED,))
    assert said(told)[1] == "QuotaExceeded"
    restarted = decided(*seen, status=told.status, has_applied=False)
    assert (restarted.status, restarted.events) == (told.status, ())
    lifted = decided(*seen, status=told.status)
    assert said(lifted)[1] == "Creating"


def test_who_was_leaving_by_its_own_word_still_is_until_it_is_heard() -> None:
    going = (BOTH[0], record("b", generation=1, step=7, leaving=True))
    told = decided(*PAIR, status=training_status("a", "b"), records=going)
    assert said(told)[:2] == ("Draining", "WorkersLeaving")
    restarted = decided(*PAIR, status=told.status)
    assert said(restarted)[:2] == ("Draining", "WorkersLeaving")
    assert status_of(restarted)["rendezvous"]["leaving"] == ["b"]
    gone = (*JOBS, pod("a"), pod("b", pool="spot", node="n2", exit_code=75))
    assert "leaving" not in status_of(decided(*gone, status=told.status))["rendezvous"]


@pytest.mark.parametrize(("seconds", "phase"), [(34, "Draining"), (36, "Running")])
def test_who_died_while_it_left_is_not_said_to_leave_for_ever(seconds: float, phase: str) -> None:
    children = (*JOBS, pod("a"), pod("b", pool="spot", node="gone", deleting=True))
    status = training_status("a", generation=2, rendezvous={"leaving": ["b"]})
    alone = (record("a", generation=2, step=7, received=NOW),)
    seen = world(*children, spec=TWO_POOLS, status=status, records=alone, nodes={"gone": None})
    listening = replace(seen, operator=replace(seen.operator, listening_since=NOW))
    assert said(decide_training(listening, NOW + timedelta(seconds=seconds)))[0] == phase


@pytest.mark.parametrize(("seconds", "members"), [(34, ["a", "b"]), (36, ["a"])])
def test_a_peer_that_was_dead_before_is_left_behind_on_the_word_of_a_survivor(
    seconds: float, members: list[str]
) -> None:
    complains = record("a", state="Regrouping", generation=0, broken=1, step=7, received=NOW)
    plan = after(seconds, records=(complains,))
    assert [one["uid"] for one in status_of(plan)["rendezvous"]["members"]] == members


def test_a_peer_that_nobody_complains_about_stays_however_long_it_is_silent() -> None:
    goes_on = replace(BOTH[0], advanced=NOW + timedelta(seconds=3590))
    plan = after(3600, records=(goes_on,))
    assert [one["uid"] for one in status_of(plan)["rendezvous"]["members"]] == ["a", "b"]


def after(seconds: float, **facts: Any) -> Plan:
    """The plan of an operator that has listened for so long."""
    seen = world(*PAIR, spec=TWO_POOLS, status=training_status("a", "b"), **facts)
    listening = replace(seen, operator=replace(seen.operator, listening_since=NOW))
    return decide_training(listening, NOW + timedelta(seconds=seconds))
