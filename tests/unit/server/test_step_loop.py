"""The compute thread with a painter that only counts: joining, leaving, failing, ending."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from deadline import wait_until
from diffusion_server.samples import Sample
from diffusion_server.step_loop import (
    FAILURES_UNTIL_RED,
    STUCK_SECONDS,
    Finished,
    Load,
    Outcome,
    SamplingFailedError,
    StepLoop,
)


@dataclass(eq=False)
class Tally:
    seed: int
    steps: int = 0


class CountingPainter:
    """Steps only when it is allowed to, and writes down which rows were in each step."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.in_step = threading.Event()
        self.failure: BaseException | None = None

    def begin(self, sample: Sample) -> Tally:
        return Tally(sample.seed)

    def step(self, states: Sequence[Tally]) -> None:
        self.in_step.set()
        assert self.allowed.acquire(timeout=10)
        self.in_step.clear()
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        self.batches.append([state.seed for state in states])
        for state in states:
            state.steps += 1

    def finish(self, state: Tally) -> bytes:
        if state.seed == 666:
            raise RuntimeError("the model produced values that are not finite")
        return f"{state.seed}:{state.steps}".encode()


@contextmanager
def running(max_rows: int = 2) -> Iterator[tuple[StepLoop[Tally], CountingPainter]]:
    painter = CountingPainter()
    loop = StepLoop(painter, max_rows, observe=lambda rows, seconds: None)
    loop.start()
    try:
        yield loop, painter
    finally:
        painter.allowed.release(1000)
        loop.stop()


def submit(loop: StepLoop[Tally], seed: int, steps: int) -> "tuple[int, Future[Outcome]]":
    future: Future[Outcome] = Future()
    return loop.submit(Sample(seed, None, steps, 1.0, "Euler"), future.set_result), future


def picture(future: "Future[Outcome]") -> bytes:
    outcome = future.result(10)
    assert isinstance(outcome, Finished)
    return outcome.picture


def test_rows_join_and_leave_between_steps() -> None:
    with running() as (loop, painter):
        _, long = submit(loop, 1, 4)
        painter.allowed.release()
        wait_until(lambda: painter.batches == [[1]], 5, "the first step is taken")
        painter.in_step.wait(5)
        _, short = submit(loop, 2, 1)
        painter.allowed.release(10)
        assert picture(short) == b"2:1"
        assert picture(long) == b"1:4"
        assert painter.batches == [[1], [1], [1, 2], [1]]


def test_a_full_batch_makes_later_rows_wait() -> None:
    with running(max_rows=2) as (loop, painter):
        futures = [submit(loop, seed, 2)[1] for seed in (1, 2, 3)]
        painter.in_step.wait(5)
        load = loop.load()
        assert load.running + load.waiting == 3
        painter.allowed.release(10)
        assert [picture(future) for future in futures] == [b"1:2", b"2:2", b"3:2"]
        assert all(len(batch) <= 2 for batch in painter.batches)


def test_a_cancelled_row_frees_its_place_at_the_next_step() -> None:
    with running(max_rows=1) as (loop, painter):
        key, gone = submit(loop, 1, 1000)
        _, waiting = submit(loop, 2, 1)
        painter.in_step.wait(5)
        assert loop.cancel(key)
        assert not loop.cancel(key)
        painter.allowed.release(10)
        assert picture(waiting) == b"2:1"
        assert not gone.done()
        assert loop.load() == Load(0, 0, 0)


def test_a_failing_step_fails_its_rows_and_the_loop_goes_on() -> None:
    with running() as (loop, painter):
        painter.failure = RuntimeError("out of memory: secret shapes")
        _, failed = submit(loop, 1, 3)
        painter.allowed.release()
        outcome = failed.result(10)
        assert isinstance(outcome, SamplingFailedError)
        assert str(outcome) == "sampling failed: RuntimeError"
        painter.allowed.release(10)
        assert picture(submit(loop, 2, 1)[1]) == b"2:1"
        assert loop.healthy


def test_a_device_on_which_every_step_fails_turns_liveness_red() -> None:
    with running() as (loop, painter):
        painter.allowed.release(1000)

        def fail_once(seed: int) -> None:
            painter.failure = RuntimeError("CUDA error: the device is lost")
            assert isinstance(submit(loop, seed, 3)[1].result(60), SamplingFailedError)

        for number in range(FAILURES_UNTIL_RED - 1):
            fail_once(number)
        assert picture(submit(loop, 8, 1)[1]) == b"8:1"
        for number in range(FAILURES_UNTIL_RED):
            assert loop.healthy, "a step between them did not fail"
            fail_once(number)
        assert not loop.healthy


def test_a_picture_that_is_not_finite_fails_only_its_own_row() -> None:
    with running() as (loop, painter):
        bad, good = submit(loop, 666, 1)[1], submit(loop, 2, 1)[1]
        painter.allowed.release(10)
        assert isinstance(bad.result(10), SamplingFailedError)
        assert picture(good) == b"2:1"


def test_ending_fails_the_rows_that_are_left_and_takes_no_more() -> None:
    with running(max_rows=1) as (loop, painter):
        futures = [submit(loop, seed, 5)[1] for seed in (1, 2)]
        painter.in_step.wait(5)
        painter.allowed.release()
        loop.stop()
        assert all(isinstance(future.result(10), SamplingFailedError) for future in futures)
        assert not loop.healthy
        with pytest.raises(RuntimeError, match="has ended"):
            submit(loop, 3, 1)


def test_a_step_that_never_ends_turns_liveness_red() -> None:
    now = [0.0]
    painter = CountingPainter()
    loop = StepLoop(painter, 1, observe=lambda rows, seconds: None, clock=lambda: now[0])
    loop.start()
    assert loop.healthy
    submit(loop, 1, 1)
    assert painter.in_step.wait(5)
    now[0] = STUCK_SECONDS - 1
    assert loop.healthy
    now[0] = STUCK_SECONDS + 1
    assert not loop.healthy
    painter.allowed.release(5)
    loop.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_our_own_ends_the_thread_and_fails_everyone() -> None:
    with running() as (loop, painter):
        painter.failure = AssertionError("a bug")
        future = submit(loop, 1, 3)[1]
        painter.allowed.release()
        assert isinstance(future.result(10), SamplingFailedError)
        wait_until(lambda: not loop.healthy, 5, "liveness turns red")
