"""Which rows run in the next step: the decision of the engine's loop, without tensors, threads or clocks.

A row is one image that is being made. It waits until there is room, joins the batch between two steps, takes part in
every step from then on, and leaves after its last one:

    step      1   2   3   4   5   6   7          max_rows = 2
    A (5)     A   A   A   A   A
    B (2)     B   B                              C waits while the batch is full, and joins when B has left
    C (4)             C   C   C   C

Invariants, which tests/property/test_server_schedule.py holds: a batch is never larger than `max_rows`; rows join in
order of arrival; a row that joined is in every batch until it leaves, so with `max_rows` running and `w` steps of
work ahead it starts after at most `w` steps; a row takes part in exactly its number of steps unless it is cancelled.
"""

from collections import deque
from dataclasses import dataclass


@dataclass
class _Place:
    """A row's key and the steps that it still has to take."""

    key: int
    remaining: int


class StepSchedule:
    """Rows in order of arrival, of which the first `max_rows` run."""

    def __init__(self, max_rows: int) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, not {max_rows}")
        self._max_rows = max_rows
        self._running: list[_Place] = []
        self._waiting: deque[_Place] = deque()

    @property
    def running(self) -> int:
        """How many rows have joined the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many rows have not joined yet."""
        return len(self._waiting)

    @property
    def outstanding_steps(self) -> int:
        """The steps that all rows together still have to take."""
        return sum(place.remaining for place in (*self._running, *self._waiting))

    def admit(self, key: int, steps: int) -> None:
        """Put a row at the end of the queue; `key` must be new and `steps` at least 1."""
        if steps < 1:
            raise ValueError(f"a row takes at least one step, not {steps}")
        self._waiting.append(_Place(key, steps))

    def cancel(self, key: int) -> bool:
        """Drop a row, wherever it is; False where it is not here (any more)."""
        before = self.running + self.waiting
        self._running = [place for place in self._running if place.key != key]
        self._waiting = deque(place for place in self._waiting if place.key != key)
        return self.running + self.waiting < before

    def next_batch(self) -> tuple[int, ...]:
        """The keys of the rows that take the next step; waiting rows join as far as there is room."""
        while self._waiting and self.running < self._max_rows:
            self._running.append(self._waiting.popleft())
        return tuple(place.key for place in self._running)

    def stepped(self, keys: tuple[int, ...]) -> tuple[int, ...]:
        """Count one step for `keys` and return those that have now taken their last; cancelled ones are passed over."""
        taken = frozenset(keys)
        for place in self._running:
            place.remaining -= place.key in taken
        finished = tuple(place.key for place in self._running if place.remaining == 0)
        self._running = [place for place in self._running if place.remaining > 0]
        return finished
