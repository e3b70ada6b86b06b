"""The operator's clock is put forward or back, or its successor's differs: nothing waits for hours."""

from datetime import datetime, timedelta

import pytest

from diffusion_operator.plan.slow_creation import is_slow
from diffusion_operator.plan.timestamps import seconds_left, to_timestamp
from diffusion_operator.plan.training_progress import throttled
from training_simulator import Simulator
from world_builders import NOW, spec_with


@pytest.mark.parametrize(
    ("since", "left"),
    [
        pytest.param(NOW, 10, id="it begins now"),
        pytest.param(NOW - timedelta(seconds=4), 6, id="under way"),
        pytest.param(NOW - timedelta(seconds=10), 0, id="over"),
        pytest.param(NOW - timedelta(hours=1), 0, id="long over, or the clock was put forward"),
        pytest.param(NOW + timedelta(seconds=3), 10, id="another machine's clock is a little ahead"),
        pytest.param(NOW + timedelta(hours=1), 0, id="the clock was put back"),
        pytest.param(None, 0, id="nobody knows"),
    ],
)
def test_what_is_left_of_ten_seconds(since: datetime | None, left: float) -> None:
    assert seconds_left(since, 10, NOW) == left


@pytest.mark.parametrize("hours", [-1, 1])
def test_progress_goes_on_in_the_status_whatever_the_clock_says(hours: int) -> None:
    stored = {"progress": {"step": 1, "lastReportTime": to_timestamp(NOW)}}
    now = NOW + timedelta(hours=hours)
    moved = {"progress": {"step": 2, "lastReportTime": to_timestamp(now)}}
    assert throttled(moved, stored, now) == (moved, 0)


def test_a_container_that_is_slow_is_not_called_so_only_hours_later() -> None:
    assert [is_slow(to_timestamp(NOW - timedelta(seconds=age)), NOW) for age in (59, 60, -3600)] == [False, True, True]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_training_goes_on_whatever_the_clock_says(hours: int) -> None:
    world = Simulator(spec_with(training__targetSteps=1000))
    world.run(30, until="Running")
    world.skew = timedelta(hours=hours)
    world.run(20)
    assert (world.status["phase"], world.status["attempt"]) == ("Running", 1)
