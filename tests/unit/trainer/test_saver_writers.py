"""A checkpoint writer that ends, at whatever moment: that save has failed, the next one has a writer, nobody waits."""

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deadline import wait_until
from diffusion_trainer import saver as saver_module
from diffusion_trainer.checkpoint.writer_messages import SaveOrder
from diffusion_trainer.packets import packet_pair
from saver_bench import KILLED, Bench, reference


def test_a_killed_writer_is_a_failed_save_and_the_next_one_starts_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.save(4)
    bench.order()
    bench.writer.close()
    assert bench.saver.wait_until_free(60)
    wait_until(lambda: bench.saver.failure, 10, "the failure")
    assert bench.saver.failure == KILLED
    bench.play_the_next_writer(monkeypatch)
    bench.save(5)
    assert bench.order().manifest.step == 5
    bench.answer(5, committed=reference(5))
    assert bench.saver.wait_until_free(60), "the new one is heard"


def test_a_writer_killed_before_it_has_read_its_order_is_a_failed_save_and_no_crash(bench: Bench) -> None:
    bench.save(4)
    bench.writer.close()
    assert bench.saver.wait_until_free(60)
    wait_until(lambda: bench.saver.failure, 60, "the failure")
    assert bench.saver.failure == KILLED


def test_an_order_goes_to_the_writer_that_lives_when_it_is_given(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And belongs to that one: the end of another, known a moment before, gives up nothing that is being written."""
    bench.play_the_next_writer(monkeypatch)
    dumped = SaveOrder.model_dump_json

    def meanwhile(order: SaveOrder, **how: Any) -> str:
        bench.saver.on_writer_gone()
        return dumped(order, **how)

    monkeypatch.setattr(SaveOrder, "model_dump_json", meanwhile)
    bench.save(4)
    assert bench.order().manifest.step == 4
    assert (bench.saver.busy, bench.saver.failure) == (True, None)
    bench.answer(4, committed=reference(4))
    assert bench.saver.wait_until_free(60)


def test_only_the_writer_that_has_gone_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its successor may have been started meanwhile, and lives for as long as the training."""
    waited: list[str] = []
    gone, next_one = (SimpleNamespace(wait=lambda name=name: waited.append(name)) for name in ("gone", "next"))
    bench.saver._process = cast(Any, gone)
    monkeypatch.setattr(bench.saver._condition, "notify_all", lambda: setattr(bench.saver, "_process", next_one))
    bench.saver.on_writer_gone()
    assert waited == ["gone"]


def test_a_writer_that_comes_as_the_inbox_stops_to_listen_is_heard(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector, heard = bench.inbox._selector, threading.Event()
    ours, theirs = packet_pair()
    get_map, coming = selector.get_map, list[threading.Thread]()

    def come_meanwhile() -> Any:
        listens_to = dict(get_map())
        if not listens_to and not coming:
            hear = bench.inbox.hear_writer
            coming.append(threading.Thread(target=hear, args=(ours, lambda _result: None, heard.set)))
            coming[0].start()
            coming[0].join(0.2)  # Until it has been taken in, or waits for that.
        return listens_to

    monkeypatch.setattr(selector, "get_map", come_meanwhile)
    bench.writer.close()
    wait_until(lambda: coming, 60, "nobody is listened to")
    theirs.close()
    assert heard.wait(60)
    coming[0].join(60)
    bench.ours.append(ours)


def test_who_waits_for_the_reading_back_hears_that_the_writer_was_killed(bench: Bench) -> None:
    bench.save(4)
    bench.order()
    bench.answer(4, committed=reference(4))
    assert bench.saver.wait_until_free(60)
    waiting = threading.Thread(target=bench.saver.wait_verified, args=(4, 60), daemon=True)
    waiting.start()
    bench.writer.close()
    waiting.join(60)
    assert not waiting.is_alive()
    assert bench.saver.committed == reference(4), "the commit stays one"
    assert bench.saver.failure is None


def test_a_save_that_meets_a_writer_killed_just_now_has_failed_and_is_no_crash(bench: Bench) -> None:
    bench.writer.close()
    wait_until(lambda: bench.saver._writer is None, 10, "its end is heard")
    bench.saver._writer = bench.ours[0]  # As before it was heard.
    bench.save(4)
    bench.saver.on_writer_gone()
    assert bench.saver.failure == KILLED
    assert not bench.saver.busy


def test_a_writer_that_is_started_anew_ends_with_its_trainer() -> None:
    writer, process = saver_module.start_writer()
    writer.close()
    assert process.wait(60) == 0, "it ends when its trainer does"
