"""What the status tells besides the phase: progress, checkpoints, preemptions, conditions, events."""

from datetime import timedelta
from typing import Any

import pytest

from decided_trainings import BOTH, COMMITTED, DIGEST, JOBS, PAIR, PUBLISHED, conditions, decided, status_of
from diffusion_contract.agent_messages import CheckpointReference, PassedOver, SaveFailure
from diffusion_operator.plan.conditions import Condition, stamped
from diffusion_operator.plan.timestamps import from_timestamp, to_timestamp
from diffusion_operator.plan.training import decide_training
from world_builders import NOW, TWO_POOLS, pod, record, spec_with, training_status, world

AT_WORK: dict[str, Any] = {"generation": 1, "step": 7, "loss": 0.5, "samples_per_second": 32.0, "samples_seen": 448}


def test_progress_is_that_of_the_most_advanced_worker() -> None:
    records = (record("a", **AT_WORK), record("b", generation=1, step=6))
    assert status_of(decided(*PAIR, status=training_status("a", "b"), records=records))["progress"] == {
        "step": 7,
        "targetSteps": 20,
        "display": "7/20",
        "percentage": 35,
        "loss": 0.5,
        "samplesPerSecond": 32.0,
        "samplesSeen": 448,
        "estimatedRemainingSeconds": 26,
        "lastReportTime": "2026-01-01T12:00:00Z",
    }


def test_progress_stays_while_nobody_reports() -> None:
    stored = {"step": 7, "targetSteps": 20, "display": "7/20", "percentage": 35, "loss": 0.5}
    found = status_of(decided(*PAIR, status=training_status("a", "b", progress=stored)))
    assert found["progress"] == stored


def test_no_end_is_estimated_while_nobody_trains() -> None:
    records = (record("a", **AT_WORK, state="Failed"), record("b", **AT_WORK, state="Failed"))
    ended = (*JOBS, pod("a", exit_code=93), pod("b", pool="spot", node="n2", exit_code=93))
    stored = {"step": 7, "targetSteps": 20, "display": "7/20", "percentage": 35, "estimatedRemainingSeconds": 26}
    for told in (records, ()):
        found = status_of(decided(*ended, status=training_status("a", "b", progress=stored), records=told))
        assert found["phase"] == "Failed"
        assert "estimatedRemainingSeconds" not in found["progress"]


def test_a_checkpoint_is_progress_when_the_reports_of_it_were_lost() -> None:
    found = status_of(decided(*PAIR, status=training_status("a", "b", checkpoint={"lastCommitted": COMMITTED})))
    assert found["progress"]["display"] == "20/20"


@pytest.mark.parametrize(("step", "display"), [(20, "20/20"), (12, "3/20")])
def test_only_a_commit_at_the_target_is_more_than_what_the_workers_who_are_left_tell(step: int, display: str) -> None:
    status = training_status("a", "b", checkpoint={"lastCommitted": COMMITTED | {"step": step}})
    found = status_of(decided(*PAIR, status=status, records=(record("b", generation=1, step=3),)))
    assert found["progress"]["display"] == display


def test_last_words_and_commits_correct_a_last_report_that_came_a_little_early() -> None:
    early = record("a", **AT_WORK)
    words = '{"reason":"Finished","step":20}'
    ended = (*JOBS, pod("a", exit_code=0, message=words), pod("b", pool="spot", node="n2"))
    found = status_of(decided(*ended, status=training_status("a", "b"), records=(early,)))["progress"]
    assert (found["display"], found["samplesSeen"]) == ("20/20", 448 + 13 * 64)
    committed = record("a", **AT_WORK, committed=COMMITTED | {"step": 8})
    found = status_of(decided(*PAIR, status=training_status("a", "b"), records=(committed,)))["progress"]
    assert found["display"] == "8/20"


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_left_out(loss: float) -> None:
    found = status_of(decided(*PAIR, status=training_status("a"), records=(record("a", **AT_WORK | {"loss": loss}),)))
    assert "loss" not in found["progress"]


def test_progress_alone_is_written_once_in_ten_seconds() -> None:
    first = status_of(decided(*PAIR, status=training_status("a", "b"), records=BOTH))
    for seconds, is_written in ((4, False), (9.9, False), (10, True)):
        later = NOW + timedelta(seconds=seconds)
        moved = tuple(record(uid, generation=1, step=9, received=later) for uid in ("a", "b"))
        plan = decide_training(world(*PAIR, spec=TWO_POOLS, status=first, records=moved), later)
        assert (status_of(plan) != first) == is_written
        assert plan.requeue_seconds == (60 if is_written else pytest.approx(10 - seconds))


def test_a_report_that_moves_nothing_is_never_written() -> None:
    first = status_of(decided(*PAIR, status=training_status("a", "b"), records=BOTH))
    later = NOW + timedelta(hours=1)
    same = tuple(record(uid, generation=1, step=7, received=later) for uid in ("a", "b"))
    plan = decide_training(world(*PAIR, spec=TWO_POOLS, status=first, records=same), later)
    assert (plan.status, plan.requeue_seconds, plan.events) == (first, 60, ())


def test_the_newest_checkpoint_is_the_one_committed_last() -> None:
    older = CheckpointReference(step=90, digest=DIGEST, time="2026-01-01T10:00:00Z")
    newer = CheckpointReference(step=15, digest=DIGEST, time="2026-01-01T11:30:00Z")
    records = (record("a", generation=1, committed=newer, verified=newer), record("b", generation=1, committed=older))
    found = status_of(decided(*PAIR, status=training_status("a", "b"), records=records))
    assert found["checkpoint"] == {"lastCommitted": newer.to_wire(), "lastVerified": newer.to_wire()}


def test_last_words_tell_of_a_checkpoint_when_reports_are_lost() -> None:
    words = f'{{"reason":"RunAgain","committed":{{"step":9,"digest":"{DIGEST}","time":"2026-01-01T11:00:00Z"}}}}'
    found = status_of(decided(*JOBS, pod("a", exit_code=75, message=words), status=training_status("a")))
    assert found["checkpoint"]["lastCommitted"]["step"] == 9


def test_a_failed_save_is_a_condition_until_a_save_succeeds() -> None:
    failure = SaveFailure(reason="StorageFull", message="no space left on the checkpoint volume")
    plan = decided(*PAIR, status=training_status("a", "b"), records=(record("a", **AT_WORK, save_failure=failure),))
    told = conditions(plan)["CheckpointSaved"]
    assert (told["status"], told["reason"], told["message"]) == ("False", "StorageFull", failure.message)
    assert ("StorageFull", "Warning") in {(event.reason, event.type) for event in plan.events}
    silent = decided(*PAIR, status=plan.status)
    assert conditions(silent)["CheckpointSaved"]["reason"] == "StorageFull"
    healed = decided(*PAIR, status=plan.status, records=(record("a", **AT_WORK, committed=COMMITTED | {"step": 8}),))
    assert conditions(healed)["CheckpointSaved"]["status"] == "True"


def test_a_checkpoint_that_was_passed_over_is_a_condition_until_a_newer_one_holds() -> None:
    passed = (PassedOver(step=10, reason="model.safetensors has another digest"),)
    plan = decided(*PAIR, status=training_status("a", "b"), records=(record("a", **AT_WORK, passed_over=passed),))
    told = conditions(plan)["CheckpointVerified"]
    assert (told["status"], told["reason"]) == ("False", "PassedOver")
    assert told["message"] == "the checkpoint of step 10 was passed over: model.safetensors has another digest"
    assert status_of(plan)["checkpoint"]["skipped"] == [passed[0].to_wire()]
    newer = record("a", **AT_WORK, verified=COMMITTED | {"step": 15})
    assert conditions(decided(*PAIR, status=plan.status, records=(newer,)))["CheckpointVerified"]["status"] == "True"


def test_a_checkpoint_older_than_the_verified_one_is_not_what_was_passed_over() -> None:
    passed = (PassedOver(step=15, reason="newest"), PassedOver(step=20, reason="damaged"))
    verified = COMMITTED | {"step": 18}
    first = decided(*PAIR, status=training_status("a", "b"), records=(record("a", **AT_WORK, passed_over=passed),))
    older = record("a", **AT_WORK, verified=verified, passed_over=(PassedOver(step=10, reason="old"),))
    told = conditions(decided(*PAIR, status=first.status, records=(older,)))["CheckpointVerified"]
    assert told["message"] == "the checkpoint of step 20 was passed over: damaged"


def test_events_say_what_changed_in_the_sentences_of_the_status() -> None:
    crashed = (*JOBS, pod("a"), pod("b", pool="spot", exit_code=1, message='{"reason":"Crashed","message":"bad luck"}'))
    plan = decided(*crashed, status=training_status("a", "b"), records=(BOTH[0],))
    assert [f"{event.type} {event.reason}: {event.message}" for event in plan.events] == [
        "Warning WorkerCrashed: b ended with exit code 1: bad luck (1 of 10 restarts)",
        "Normal Regrouped: generation 2 has 1 worker: b is leaving: it ended with exit code 1",
        f"Normal Regrouping: {status_of(plan)['message']}",
    ]
    assert decided(*crashed, status=plan.status, records=(BOTH[0],)).events == ()


def test_columns_have_what_they_print() -> None:
    found = status_of(decided(*PAIR, status=training_status("a", "b"), records=BOTH))
    assert (found["workers"]["display"], found["progress"]["display"]) == ("2/2", "7/20")
    assert (found["worldSize"], found["attempt"], found["generation"]) == (2, 1, 1)
    wide = spec_with(TWO_POOLS, workers__processesPerWorker=2)
    assert status_of(decided(spec=wide))["workers"] == {"ready": 0, "desired": 2, "display": "0/2"}


def test_published_is_a_condition_only_where_it_was_asked_for() -> None:
    assert "Published" not in conditions(decided())
    raised = spec_with(TWO_POOLS, training__targetSteps=4000, publish={"claim": {"size": "1Gi"}})
    earlier = decided(*PAIR, spec=raised, status=training_status("a", "b", published=PUBLISHED), records=BOTH)
    assert conditions(earlier)["Published"]["status"] == "False"
    newer = record("a", generation=1, published=PUBLISHED | {"step": 4000})
    later = decided(*PAIR, spec=raised, status=earlier.status, records=(newer,))
    assert (conditions(later)["Published"]["status"], status_of(later)["published"]["step"]) == ("True", 4000)
    asked = decided(spec=spec_with(TWO_POOLS, publish={"claim": {"size": "1Gi"}}))
    assert conditions(asked)["Published"]["status"] == "False"


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    old = stamped([Condition("Ready", "False", "A", "a")], [], 1, NOW)
    later = NOW + timedelta(hours=1)
    (same,) = stamped([Condition("Ready", "False", "B", "b")], old, 2, later)
    (turned,) = stamped([Condition("Ready", "True", "B", "b")], old, 2, later)
    assert (same["lastTransitionTime"], same["reason"], same["observedGeneration"]) == (to_timestamp(NOW), "B", 2)
    assert turned["lastTransitionTime"] == to_timestamp(later)


def test_a_reason_is_always_one_that_the_api_accepts() -> None:
    (odd,) = stamped([Condition("Ready", "True", "no such file!", "x" * 5000)], [], 1, NOW)
    assert (odd["reason"], len(odd["message"])) == ("nosuchfile", 1024)
    assert stamped([Condition("Ready", "True", "42", "x")], [], 1, NOW)[0]["reason"] == "Unknown"


def test_times_that_cannot_be_read_are_none() -> None:
    assert from_timestamp("yesterday") is None
    assert from_timestamp(None) is None
    assert from_timestamp(["2026-01-01T12:00:00Z"]) is None
    assert from_timestamp("0001-01-01T00:00:00+10:00") is None
    assert from_timestamp("9999-12-31T23:59:59-10:00") is None
    assert from_timestamp("2026-01-01T12:00:00Z") == NOW
    assert from_timestamp("2026-01-01T12:00:00") == NOW
