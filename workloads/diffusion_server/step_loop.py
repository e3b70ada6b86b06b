"""The engine's one compute thread: it steps whatever rows the schedule names, and hands finished images back.

Any thread may submit and cancel. Tensors are touched in this thread alone, so the network needs no lock; the lock here
guards only the schedule and is never held during a step.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic, Protocol, TypeVar

from diffusion_server.samples import Sample
from diffusion_server.step_schedule import StepSchedule

_LOGGER = logging.getLogger(__name__)
STUCK_SECONDS = 300.0
"""A step that takes longer than this has hung: liveness turns red, and the pod is started again."""
FAILURES_UNTIL_RED = 3
"""So many failed steps in a row are no accident: the device may be lost, and only a new process gets it back."""

State = TypeVar("State")


class Painter(Protocol[State]):
    """What makes images: a row's state is begun, stepped together with others, and finished."""

    def begin(self, sample: Sample) -> State:
        """The state of a new row, before its first step."""

    def step(self, states: Sequence[State]) -> None:
        """One step of every row; each may stand at a step of its own. Raises RuntimeError where it fails."""

    def finish(self, state: State) -> bytes:
        """The raw picture of a row after its last step. Raises RuntimeError where there is none."""


class SamplingFailedError(Exception):
    """The image could not be made; the message says why, in words that a client may see."""


@dataclass(frozen=True)
class Finished:
    """A raw picture, and the seconds that its row waited and was worked on."""

    picture: bytes
    queue_seconds: float
    compute_seconds: float


Outcome = Finished | SamplingFailedError
Done = Callable[[Outcome], None]


@dataclass(frozen=True)
class Load:
    """How busy the loop is: rows in the batch, rows that wait, and the steps that all of them still have to take."""

    running: int
    waiting: int
    outstanding_steps: int


@dataclass(eq=False)
class _Row(Generic[State]):
    sample: Sample
    done: Done
    submitted: float
    started: float = 0.0
    state: State | None = None


class StepLoop(Generic[State]):
    """Runs `painter` over at most `max_rows` rows at a time. `observe(rows, seconds)` is told of every step."""

    def __init__(
        self,
        painter: Painter[State],
        max_rows: int,
        observe: Callable[[int, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._painter = painter
        self._observe = observe
        self._clock = clock
        self._changed = threading.Condition()
        self._schedule = StepSchedule(max_rows)
        self._rows: dict[int, _Row[State]] = {}
        self._keys = count()
        self._ending = False
        self._step_began: float | None = None
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="step-loop", daemon=True)

    def start(self) -> None:
        """Start the compute thread."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End after the step that is being taken; unfinished rows fail. Returns after `seconds` at the latest."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(seconds)

    @property
    def healthy(self) -> bool:
        """Whether the thread lives, is not stuck in a step, and can take one."""
        began = self._step_began
        is_stuck = began is not None and self._clock() - began >= STUCK_SECONDS
        return self._thread.is_alive() and not is_stuck and self._failures < FAILURES_UNTIL_RED

    def load(self) -> Load:
        """How busy the loop is now."""
        with self._changed:
            return Load(self._schedule.running, self._schedule.waiting, self._schedule.outstanding_steps)

    def submit(self, sample: Sample, done: Done) -> int:
        """Queue a row and return its key. `done` is called once, in the compute thread, unless the row is cancelled."""
        with self._changed:
            if self._ending:
                raise RuntimeError("the loop has ended")
            key = next(self._keys)
            self._rows[key] = _Row(sample, done, self._clock())
            self._schedule.admit(key, sample.steps)
            self._changed.notify()
            return key

    def cancel(self, key: int) -> bool:
        """Free the place of a row at the next step boundary; False where it is already done."""
        with self._changed:
            self._rows.pop(key, None)
            return self._schedule.cancel(key)

    def _run(self) -> None:
        try:
            while batch := self._wait_for_batch():
                self._take_step(batch)
        finally:
            with self._changed:
                self._ending = True
                left = list(self._rows)
            self._fail(left, "the engine ended before the image was finished")

    def _wait_for_batch(self) -> dict[int, _Row[State]]:
        """The rows of the next step by their keys, none when the loop is to end."""
        with self._changed:
            while not self._ending:
                if batch := self._schedule.next_batch():
                    return {key: self._rows[key] for key in batch}
                self._changed.wait()
            return {}

    def _take_step(self, batch: Mapping[int, _Row[State]]) -> None:
        self._step_began = began = self._clock()
        try:
            self._painter.step([self._state_of(row, began) for row in batch.values()])
        except RuntimeError as problem:
            self._failures += 1
            _LOGGER.exception("a step of %d rows failed", len(batch))
            self._fail(batch, f"sampling failed: {type(problem).__name__}")
            return
        finally:
            self._step_began = None
        self._failures = 0
        self._observe(len(batch), self._clock() - began)
        with self._changed:
            leaving = [self._rows.pop(key) for key in self._schedule.stepped(tuple(batch))]
        for row in leaving:
            row.done(self._outcome(row))

    def _state_of(self, row: _Row[State], now: float) -> State:
        if row.state is None:
            row.started = now
            row.state = self._painter.begin(row.sample)
        return row.state

    def _outcome(self, row: _Row[State]) -> Outcome:
        assert row.state is not None
        try:
            picture = self._painter.finish(row.state)
        except RuntimeError as problem:
            return SamplingFailedError(str(problem))
        return Finished(picture, row.started - row.submitted, self._clock() - row.started)

    def _fail(self, keys: Collection[int], message: str) -> None:
        with self._changed:
            rows = [row for key in keys if (row := self._rows.pop(key, None))]
            for key in keys:
                self._schedule.cancel(key)
        for row in rows:
            row.done(SamplingFailedError(message))
