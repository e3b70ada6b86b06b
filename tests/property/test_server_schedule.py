"""The step schedule under every order of arrivals and departures."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from diffusion_server.step_schedule import StepSchedule


class Crowd(RuleBasedStateMachine):
    """Rows come, go and are stepped in any order; a plain list of what they asked for is the judge."""

    @initialize(max_rows=st.integers(1, 5))
    def begin(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.schedule = StepSchedule(max_rows)
        self.asked: dict[int, int] = {}
        self.taken: Counter[int] = Counter()
        self.finished: list[int] = []
        self.cancelled: set[int] = set()
        self.next_key = 0
        self.before: tuple[int, ...] = ()

    @rule(steps=st.integers(1, 6))
    def arrive(self, steps: int) -> None:
        self.schedule.admit(self.next_key, steps)
        self.asked[self.next_key] = steps
        self.next_key += 1

    @rule(pick=st.integers(0, 30))
    def leave(self, pick: int) -> None:
        key = pick % (self.next_key + 1)
        expected = key in self.asked and key not in self.finished and key not in self.cancelled
        assert self.schedule.cancel(key) == expected
        if expected:
            self.cancelled.add(key)

    @rule(gone=st.none() | st.integers(0, 4))
    def step(self, gone: int | None) -> None:
        """One tick; a client may go away while the step is being taken."""
        batch = self.schedule.next_batch()
        assert len(batch) == len(set(batch)) <= self.max_rows
        assert not self.cancelled & set(batch)
        still_here = [key for key in self.before if key not in self.cancelled and key not in self.finished]
        assert list(batch[: len(still_here)]) == still_here, "whoever has joined stays until it is done"
        if gone is not None and gone < len(batch):
            self.schedule.cancel(batch[gone])
            self.cancelled.add(batch[gone])
        self.taken.update(batch)
        done = self.schedule.stepped(batch)
        assert set(done) == {key for key in batch if self.taken[key] == self.asked[key] and key not in self.cancelled}
        self.finished.extend(done)
        self.before = batch

    @invariant()
    def everyone_is_somewhere(self) -> None:
        if not hasattr(self, "schedule"):
            return
        here = self.asked.keys() - set(self.finished) - self.cancelled
        assert self.schedule.running + self.schedule.waiting == len(here)
        assert self.schedule.running <= self.max_rows
        assert self.schedule.outstanding_steps == sum(self.asked[key] - self.taken[key] for key in here)
        assert all(self.taken[key] <= self.asked[key] for key in self.asked)


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(deadline=None)


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=20))
@settings(deadline=None)
def test_every_row_makes_exactly_its_steps_and_none_starves(max_rows: int, steps: list[int]) -> None:
    schedule = StepSchedule(max_rows)
    for key, number in enumerate(steps):
        schedule.admit(key, number)
    taken: Counter[int] = Counter()
    began: list[int] = []
    ticks = 0
    while batch := schedule.next_batch():
        ticks += 1
        began.extend(key for key in batch if key not in taken)
        taken.update(batch)
        schedule.stepped(batch)
        assert ticks <= sum(steps), "a tick without progress"
    assert taken == Counter(dict(enumerate(steps)))
    assert began == sorted(began), "rows join in order of arrival"


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 9))
@settings(deadline=None)
def test_a_row_waits_no_longer_than_the_work_that_was_ahead_of_it(max_rows: int, ahead: list[int], mine: int) -> None:
    schedule = StepSchedule(max_rows)
    for key, number in enumerate(ahead):
        schedule.admit(key, number)
    bound = schedule.outstanding_steps
    schedule.admit(-1, mine)
    waited = 0
    while -1 not in (batch := schedule.next_batch()):
        waited += 1
        schedule.admit(1000 + waited, 9)  # later arrivals change nothing
        schedule.stepped(batch)
    assert waited <= bound // max_rows + max(ahead)


@given(st.integers(-3, 0))
@settings(deadline=None)
def test_nonsense_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        StepSchedule(number)
    with pytest.raises(ValueError, match="at least one step"):
        StepSchedule(1).admit(0, number)
