import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest

from diffusion_operator.loop.queue import FIRST_PAUSE, LONGEST_PAUSE, WorkQueue
from operator_harness import until

Task = Callable[[object], Awaitable[float | None]]


class Bench:
    """A queue with workers and a record of what they did."""

    def __init__(self, task: Task | None = None) -> None:
        self.done: list[object] = []
        self.failed: list[tuple[object, Exception]] = []
        self.running: set[object] = set()
        self.most = 0
        self.queue: WorkQueue[object] = WorkQueue(lambda key, error: self.failed.append((key, error)))
        self.task = task

    async def work(self, key: object) -> float | None:
        assert key not in self.running, "the same key twice at a time"
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        try:
            return await self.task(key) if self.task else None
        finally:
            self.running.discard(key)
            self.done.append(key)

    @contextlib.asynccontextmanager
    async def workers(self, number: int = 3) -> AsyncIterator[Self]:
        tasks = [asyncio.create_task(self.queue.work(self.work)) for _ in range(number)]
        try:
            yield self
        finally:
            self.queue.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_key_that_is_added_often_is_worked_on_once() -> None:
    bench = Bench()
    for _ in range(10):
        bench.queue.add("a")
    assert bench.queue.depth == 1
    async with bench.workers():
        await until(lambda: bench.queue.is_quiet, 2, "quiet")
    assert bench.done == ["a"]


async def test_what_happens_while_a_key_is_worked_on_is_looked_at_once_more_afterwards() -> None:
    gate = asyncio.Event()

    async def wait(_: object) -> None:
        await gate.wait()

    bench = Bench(wait)
    async with bench.workers():
        bench.queue.add("a")
        await until(lambda: bench.running, 2, "the first run")
        for _ in range(5):
            bench.queue.add("a")
        await asyncio.sleep(0.01)
        assert bench.done == []
        gate.set()
        await until(lambda: bench.queue.is_quiet, 2, "quiet")
    assert bench.done == ["a", "a"]


async def test_different_keys_are_worked_on_at_the_same_time() -> None:
    async def a_moment(_: object) -> None:
        await asyncio.sleep(0.02)

    bench = Bench(a_moment)
    async with bench.workers(3):
        for key in "abcdef":
            bench.queue.add(key)
        await until(lambda: bench.queue.is_quiet, 2, "quiet")
    assert bench.most == 3
    assert sorted(map(str, bench.done)) == list("abcdef")


async def test_a_failure_is_told_and_tried_again() -> None:
    tries: list[int] = []

    async def fail_twice(_: object) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")

    bench = Bench(fail_twice)
    async with bench.workers():
        bench.queue.add("a")
        await until(lambda: len(tries) == 3 and bench.queue.is_quiet, 2, "the third try")
    assert [str(error) for _, error in bench.failed] == ["not yet", "not yet"]


async def test_one_bad_key_does_not_stop_the_others() -> None:
    async def fail(key: object) -> None:
        if key == "bad":
            raise RuntimeError("bad")

    bench = Bench(fail)
    async with bench.workers(1):
        bench.queue.add("bad")
        bench.queue.add("good")
        await until(lambda: "good" in bench.done, 2, "the good one")


def test_pauses_grow_with_jitter_up_to_a_limit() -> None:
    queue: WorkQueue[str] = WorkQueue(lambda *_: None)
    pauses = [queue._pause_after_failure("a") for _ in range(40)]
    assert FIRST_PAUSE * 0.8 <= pauses[0] <= FIRST_PAUSE * 1.2
    assert FIRST_PAUSE * 8 * 0.8 <= pauses[3] <= FIRST_PAUSE * 8 * 1.2
    assert max(pauses) <= LONGEST_PAUSE * 1.2
    assert len(set(pauses[-10:])) > 1, "jitter"


async def test_the_result_is_the_pause_before_the_next_time() -> None:
    times: list[float] = []

    async def again(_: object) -> float | None:
        times.append(asyncio.get_running_loop().time())
        return 0.05 if len(times) < 3 else None

    bench = Bench(again)
    async with bench.workers():
        bench.queue.add("a")
        await until(lambda: len(times) == 3, 2, "three runs")
    assert all(later - earlier >= 0.045 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("pauses", [(0.02, 30), (30, 0.02)])
async def test_the_earliest_of_two_times_counts(pauses: tuple[float, float]) -> None:
    bench = Bench()
    async with bench.workers():
        for pause in pauses:
            bench.queue.add_after("a", pause)
        await until(lambda: bench.done == ["a"], 2, "the earlier time")


async def test_a_key_that_is_worked_on_earlier_is_not_rung_for_again() -> None:
    bench = Bench()
    async with bench.workers():
        bench.queue.add_after("a", 0.05)
        bench.queue.add("a")
        await asyncio.sleep(0.1)
    assert bench.done == ["a"]


async def test_what_is_urgent_comes_before_a_crowd_and_each_key_once() -> None:
    bench = Bench()
    for key in ("a", "b", "late", "c"):
        bench.queue.add(key)
    bench.queue.add_urgent("late")
    bench.queue.add_urgent("new")
    bench.queue.add("late")
    assert bench.queue.depth == 5
    async with bench.workers(1):
        await until(lambda: bench.queue.is_quiet, 2, "quiet")
    assert bench.done == ["late", "new", "a", "b", "c"]


async def test_a_reserved_worker_is_free_for_what_is_urgent_while_a_crowd_holds_all_others() -> None:
    gate = asyncio.Event()

    async def wait(key: object) -> None:
        if not str(key).startswith("urgent"):
            await gate.wait()

    bench = Bench(wait)
    async with bench.workers(3):
        reserved = asyncio.create_task(bench.queue.work(bench.work, only_urgent=True))
        for number in range(200):
            bench.queue.add(number)
        await until(lambda: len(bench.running) == 3, 2, "three of the crowd at work")
        bench.queue.add_urgent("urgent")
        bench.queue.add("urgent too, but waiting already")
        bench.queue.add_urgent("urgent too, but waiting already")
        await until(lambda: len(bench.done) == 2, 2, "the urgent ones")
        gate.set()
        await until(lambda: bench.queue.is_quiet, 2, "quiet")
        reserved.cancel()
    assert len(bench.done) == 202


async def test_what_becomes_urgent_while_it_is_worked_on_is_next_afterwards() -> None:
    gate = asyncio.Event()

    async def wait(_: object) -> None:
        await gate.wait()

    bench = Bench(wait)
    async with bench.workers(1):
        bench.queue.add("a")
        await until(lambda: bench.running, 2, "the first run")
        for key in ("b", "c"):
            bench.queue.add(key)
        bench.queue.add_urgent("a")
        gate.set()
        await until(lambda: bench.queue.is_quiet, 2, "quiet")
    assert bench.done == ["a", "a", "b", "c"]


async def test_a_closed_queue_lets_work_end_and_begins_none() -> None:
    gate = asyncio.Event()

    async def wait(_: object) -> float:
        await gate.wait()
        return 0.01

    bench = Bench(wait)
    async with bench.workers(1):
        for key in ("a", "b"):
            bench.queue.add(key)
        await until(lambda: bench.running, 2, "the first run")
        bench.queue.close()
        bench.queue.add("c")
        bench.queue.add_urgent("d")
        bench.queue.add_after("e", 0.0)
        gate.set()
        await until(lambda: bench.queue.is_quiet, 2, "quiet")
        await asyncio.sleep(0.03)
    assert bench.done == ["a"]
