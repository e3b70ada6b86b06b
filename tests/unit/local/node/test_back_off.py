"""Back-off as a kubelet does it."""

from hypothesis import given
from hypothesis import strategies as st

from diffusion_local.node.back_off import (
    FORGIVEN_AFTER_SECONDS,
    LONGEST_SECONDS,
    delay_before_pull,
    delay_before_restart,
    delay_before_retry,
    failures_in_a_row,
)


def test_restarts_wait_0_10_20_40_up_to_300() -> None:
    assert [delay_before_restart(failures) for failures in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]


def test_pulls_wait_10_20_40_up_to_300() -> None:
    assert [delay_before_pull(failures) for failures in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]


@given(st.integers(0, 10**6))
def test_delays_never_shrink_and_are_bounded(failures: int) -> None:
    for delay in (delay_before_restart, delay_before_pull, delay_before_retry):
        assert 0 <= delay(failures) <= delay(failures + 1) <= LONGEST_SECONDS


@given(st.integers(0, 100), st.floats(0, FORGIVEN_AFTER_SECONDS))
def test_each_short_run_counts(before: int, seconds: float) -> None:
    assert failures_in_a_row(before, seconds) == before + 1


def test_a_long_run_is_forgiven() -> None:
    assert failures_in_a_row(17, FORGIVEN_AFTER_SECONDS + 1) == 1
