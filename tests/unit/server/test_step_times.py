"""The t(b) curve, what it predicts, and whom it turns away."""

import pytest

from diffusion_router.door.limits import ANSWER_SECONDS
from diffusion_server.admission import refusal, waiting_bound
from diffusion_server.step_loop import Load
from diffusion_server.step_times import StepTimes, measure_step_times, warm_up_sizes

CURVE = StepTimes(((1, 0.010), (4, 0.020), (8, 0.040)))
IDLE = Load(running=0, waiting=0, outstanding_steps=0)


@pytest.mark.parametrize(
    ("max_rows", "sizes"), [(1, (1,)), (2, (1, 2)), (16, (1, 2, 4, 8, 16)), (20, (1, 2, 4, 8, 16, 20))]
)
def test_warm_up_measures_powers_of_two_and_the_bound_itself(max_rows: int, sizes: tuple[int, ...]) -> None:
    assert warm_up_sizes(max_rows) == sizes


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [(0, 0.010), (1, 0.010), (2, 0.010 + 0.010 / 3), (4, 0.020), (6, 0.030), (8, 0.040), (99, 0.040)],
)
def test_between_measured_sizes_the_curve_is_a_line(rows: int, seconds: float) -> None:
    assert CURVE.step_seconds(rows) == pytest.approx(seconds)


def test_alone_a_request_takes_its_own_steps() -> None:
    assert CURVE.finish_seconds(0, steps=20, images=1) == pytest.approx(0.2)


def test_in_a_crowd_it_waits_for_the_work_ahead() -> None:
    assert CURVE.finish_seconds(8 * 1000, steps=8, images=1) == pytest.approx(1001 * 0.040)


def test_the_fastest_of_the_repeats_counts_and_the_first_run_does_not() -> None:
    now = [0.0]
    durations = iter([9.0, 3.0, 1.0, 2.0, 9.0, 6.0, 4.0, 5.0])
    ran = []

    def run_step(rows: int) -> None:
        ran.append(rows)
        now[0] += next(durations)

    times = measure_step_times(run_step, 2, lambda: now[0])
    assert times.points == ((1, 1.0), (2, 4.0))
    assert ran == [1, 1, 1, 1, 2, 2, 2, 2]


def test_what_no_engine_could_finish_in_time_is_refused_and_not_put_off() -> None:
    slow = StepTimes(((1, 10.0), (8, 10.0)))
    error = refusal(IDLE, slow, 8, steps=1000, images=1)
    assert error is not None
    assert (error.code, error.status, error.param) == ("invalid_value", 400, "steps")
    assert "about 10000 s even on an idle engine" in error.message
    assert refusal(IDLE, slow, 8, steps=12, images=8) is None, "just in time"


def test_a_full_queue_is_told_with_the_time_when_it_will_be_shorter() -> None:
    load = Load(running=8, waiting=waiting_bound(8) + 8, outstanding_steps=8 * 100)
    error = refusal(load, CURVE, 8, steps=4, images=1)
    assert error is not None
    assert (error.code, error.status, error.headers["Retry-After"]) == ("too_many_requests", 429, "4")


def test_rows_that_run_take_no_place_in_the_queue_and_none_beyond_it_is_taken() -> None:
    full = Load(running=8, waiting=waiting_bound(8), outstanding_steps=80)
    assert refusal(full, CURVE, 8, steps=4, images=1) is not None
    last = Load(running=8, waiting=waiting_bound(8) - 1, outstanding_steps=80)
    assert refusal(last, CURVE, 8, steps=4, images=1) is None
    idle = Load(running=0, waiting=waiting_bound(8) + 7, outstanding_steps=80)
    assert refusal(idle, CURVE, 8, steps=4, images=1) is None, "eight of them join before the next step"


def test_what_could_not_be_answered_in_time_is_refused_at_once() -> None:
    steps_in_time = round(ANSWER_SECONDS / 0.040) * 8
    error = refusal(Load(8, 50, steps_in_time + 8 * 50), CURVE, 8, steps=8, images=1)
    assert error is not None
    assert error.code == "too_many_requests"
    assert refusal(Load(8, 50, steps_in_time - 8 * 50), CURVE, 8, steps=8, images=1) is None


def test_a_single_request_of_the_largest_size_always_fits_an_idle_engine() -> None:
    for max_rows in (1, 2, 16, 100):
        assert waiting_bound(max_rows) + max_rows >= 10
