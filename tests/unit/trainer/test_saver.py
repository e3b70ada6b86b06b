"""The trainer's side of a save: one at a time, and counted when it must wait."""

import time

import pytest

from checkpoint_samples import DIGEST
from deadline import wait_until
from diffusion_contract.agent_messages import SaveFailure
from diffusion_trainer import saver as saver_module
from diffusion_trainer.checkpoint.fencing import Fenced
from saver_bench import KILLED, Bench, TwoTensors, reference


def test_a_save_that_is_due_while_one_is_written_waits_and_is_counted_once(bench: Bench) -> None:
    bench.save(10)
    order = bench.order()
    assert order.manifest.step == 10
    assert order.abandoned == (DIGEST,)
    assert [shard.name for shard in order.shards] == ["model.safetensors", "ema.safetensors", "rng.safetensors"]
    assert bench.saver.busy
    assert [bench.saver.is_due(step, 10, None) for step in (20, 21, 22)] == [False] * 3
    assert bench.saver.postponed == 1
    bench.answer(10, committed=reference(10), seconds=0.5)
    assert bench.saver.wait_until_free(60)
    assert bench.saver.is_due(23, 10, None), "it is made up for at the first step that can"
    assert bench.said[-1].committed == reference(10)
    assert bench.said[-1].save_seconds == 0.5


def test_what_99_of_100_saves_took_at_most_is_reported(bench: Bench) -> None:
    for step, seconds in ((10, 0.5), (20, 2.5), (30, 0.7)):
        bench.save(step)
        bench.order()
        bench.answer(step, committed=reference(step), seconds=seconds)
        assert bench.saver.wait_until_free(60)
    assert [report.save_seconds for report in bench.said if report.committed][-3:] == [0.5, 2.5, 2.5]
    assert saver_module.percentile_99([1.0] * 198 + [7.0, 9.0]) == 1.0
    assert saver_module.percentile_99([*[1.0] * 98, 7.0, 9.0]) == 7.0


def test_the_newest_that_was_read_back_stays_the_newest_that_is_told(bench: Bench) -> None:
    """An urgent save overtakes the reading back of the one before it."""
    for step in (10, 20):
        bench.save(step)
        bench.order()
        bench.answer(step, committed=reference(step))
        assert bench.saver.wait_until_free(60)
    for step in (20, 10):
        bench.answer(step, verified=reference(step))
    bench.answer(20, failure=KILLED)
    wait_until(lambda: bench.saver.failure, 20, "all before it was heard")
    bench.save(15)  # After 20 was found damaged, and the run fell back to 10.
    bench.order()
    bench.answer(15, verified=reference(15))
    bench.saver.wait_verified(15, 60)
    assert [report.verified for report in bench.said if report.verified] == [reference(20), reference(15)]


def test_intervals_in_steps_and_in_seconds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [step for step in range(1, 9) if bench.saver.is_due(step, 4, None)] == [4, 8]
    started = bench.saver.last_started
    monkeypatch.setattr(time, "monotonic", lambda: started + 29.9)
    assert not bench.saver.is_due(5, None, 30)
    monkeypatch.setattr(time, "monotonic", lambda: started + 30)
    assert bench.saver.is_due(5, None, 30)


def test_a_failed_save_is_reported_tried_again_and_taken_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.save(4)
    bench.order()
    failure = SaveFailure(reason="StorageFull", message="the checkpoint volume is full")
    bench.answer(4, failure=failure)
    assert bench.saver.wait_until_free(60)
    bench.saver.wait_verified(4, 60)
    assert bench.said[-1].save_failure == failure
    assert not bench.saver.is_due(5, 4, None)
    later = time.monotonic() + 11
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert bench.saver.is_due(5, 4, None)
    monkeypatch.undo()
    bench.save(5)
    bench.order()
    bench.answer(5, committed=reference(5))
    assert bench.saver.wait_until_free(60)
    assert "save_failure" in bench.said[-1].model_fields_set
    assert bench.said[-1].save_failure is None


def test_a_commit_that_cannot_be_read_back_is_none_and_its_step_is_due_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.save(4)
    bench.order()
    bench.answer(4, committed=reference(4))
    assert bench.saver.wait_until_free(60)
    assert not bench.saver.is_due(4, 4, None)
    bench.answer(4, failure=SaveFailure(reason="SaveFailed", message="another sha256"))
    bench.saver.wait_verified(4, 60)
    assert bench.saver.committed is None
    assert bench.saver.is_due(4, 4, None)


def test_the_memory_of_snapshots_can_be_taken_before_the_first(bench: Bench) -> None:
    bench.saver.preallocate(TwoTensors().shards())
    before = {name: image.descriptor for name, image in bench.saver._images.items()}
    assert set(before) == {"model.safetensors", "ema.safetensors"}
    bench.save(4)
    bench.order()
    assert {name: bench.saver._images[name].descriptor for name in before} == before


def test_being_fenced_ends_the_attempt(bench: Bench) -> None:
    bench.saver.raise_if_fenced()
    bench.save(4)
    bench.order()
    bench.answer(4, failure=SaveFailure(reason="Fenced", message="attempt 2 has taken over"))
    assert bench.saver.wait_until_free(60)
    with pytest.raises(Fenced, match="attempt 2 has taken over"):
        bench.saver.raise_if_fenced()


def test_a_volume_that_does_not_answer_fails_the_next_save_and_holds_up_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.save(10)
    bench.order()
    bench.save(20, patience=0.05)
    assert bench.saver.failure is not None
    assert bench.said[-1].save_failure == bench.saver.failure
    assert "the checkpoint of step 10 is still being written" in bench.saver.failure.message
    bench.answer(10, committed=reference(10), seconds=0.5)
    assert bench.saver.wait_until_free(60)
    assert bench.said[-1].committed == reference(10)
    assert "save_failure" in bench.said[-1].model_fields_set
    assert not bench.saver.is_due(11, 10, None), "what failed is not owed any more"

    bench.save(30)
    bench.order()
    assert not bench.saver.is_due(40, 10, None)
    assert bench.said[-1].save_failure is None, "it is slow, no more"
    late = bench.saver.last_started + 601
    monkeypatch.setattr(saver_module.time, "monotonic", lambda: late)
    assert not bench.saver.is_due(50, 10, None)
    assert not bench.saver.is_due(60, 10, None)
    told = [one.save_failure.message for one in bench.said if one.save_failure is not None]
    assert len(told) == 2, "once is enough"
    assert "of step 30" in told[-1]
