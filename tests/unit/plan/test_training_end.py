"""What touches nothing that runs, and what comes after the end."""

import pytest

from decided_trainings import BOTH, JOBS, PAIR, conditions, decided, kstatus, said
from world_builders import MINIMAL, TWO_POOLS, job, pod, record, spec_with, training_status


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


def test_a_training_that_diverges_says_so_and_nothing_else() -> None:
    before = decided(*PAIR, status=training_status("a", "b"), records=BOTH).status
    failed = tuple(record(uid, state="Failed", generation=1, step=7) for uid in ("a", "b"))
    first = decided(*PAIR, status=before, records=(failed[0], BOTH[1]))
    second = decided(*PAIR, status=first.status, records=failed)
    assert (first.events, second.events) == ((), ())
    words = '{"reason":"DoNotRetry","message":"the training has diverged"}'
    ended = (*JOBS, *(pod(uid, pool=pool, exit_code=93, message=words) for uid, pool in (("a", "base"), ("b", "spot"))))
    last = decided(*ended, status=second.status, records=failed)
    assert [f"{event.reason}: {event.message}" for event in last.events] == ["DoNotRetry: the training has diverged"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_an_end_absorbs(phase: str) -> None:
    status = training_status("a", "b") | {"phase": phase, "observedGeneration": 1}
    plan = decided(*PAIR, status=status, records=BOTH)
    assert (plan.status, plan.apply, plan.instructions) == (None, (), {})
    assert {one.name for one in plan.delete} == {"job-base-1", "job-spot-1"}


def test_workers_that_reached_the_target_end_by_themselves() -> None:
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T11:59:50Z"}
    status = training_status() | {"phase": "Succeeded", "conditions": [complete]}
    spare = decided(*PAIR, status=status, records=(BOTH[0], record("b", state="Ready")))
    assert [one.name for one in spare.delete] == ["job-spot-1"]
    unheard = decided(*PAIR, status=status)
    assert (unheard.delete, unheard.requeue_seconds) == ((), 30)
    complete["lastTransitionTime"] = "2026-01-01T11:59:00Z"
    assert {one.name for one in decided(*PAIR, status=status, records=BOTH).delete} == {"job-base-1", "job-spot-1"}


def test_a_job_that_has_ended_keeps_its_logs() -> None:
    ended = job("base", conditions=[{"type": "Complete", "status": "True"}])
    assert decided(ended, status=training_status() | {"phase": "Succeeded"}).delete == ()


@pytest.mark.parametrize("code", [64, 93])
def test_a_job_that_a_refusal_is_about_to_fail_keeps_the_log_that_says_why(code: int) -> None:
    failed = {"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T11:59:50Z"}
    status = training_status() | {"phase": "Failed", "conditions": [failed]}
    refused = (*JOBS, pod("a", exit_code=code), pod("b", pool="spot", node="n2"))
    plan = decided(*refused, status=status, records=BOTH)
    assert ([one.name for one in plan.delete], plan.requeue_seconds) == (["job-spot-1"], 30)
    crashed = (*JOBS, pod("a", exit_code=1), pod("b", pool="spot", node="n2"))
    assert len(decided(*crashed, status=status, records=BOTH).delete) == 2
    failed["lastTransitionTime"] = "2026-01-01T11:59:00Z"
    assert len(decided(*refused, status=status, records=BOTH).delete) == 2


@pytest.mark.parametrize(
    ("phase", "remedy"),
    [
        ("Succeeded", "create another DiffusionTraining"),
        ("Failed", "set the annotation diffusion.dev/retry to another value to try again with it"),
    ],
)
def test_an_edit_after_the_end_is_noted_and_nothing_else(phase: str, remedy: str) -> None:
    ready = {"type": "Ready", "status": "True", "observedGeneration": 0}
    status = training_status() | {"phase": phase, "observedGeneration": 0, "conditions": [ready]}
    plan = decided(status=status)
    assert plan.status is not None
    assert plan.status["phase"] == phase
    assert plan.status["observedGeneration"] == 1
    told = conditions(plan)
    assert told["Ready"] == ready | {"observedGeneration": 1}
    said = f"the spec was edited after the end: {remedy}"
    assert (told["EditIgnored"]["status"], told["EditIgnored"]["message"]) == ("True", said)
    assert [(one.reason, one.message) for one in plan.events] == [("RunHasEnded", said)]
    assert decided(status=plan.status).status is None
