"""GraceSufficient: whether a save fits between a worker's notice and its end."""

from typing import Any

import pytest

from decided_trainings import BOTH, COMMITTED, PAIR, conditions, decided, status_of
from world_builders import MINIMAL, TWO_POOLS, record, spec_with, training_status


def saved_in(seconds: float | None, **facts: Any) -> Any:
    """The plan for a run whose newest saves took so long."""
    told = record("a", generation=1, step=7, committed=COMMITTED | {"step": 5}, save_seconds=seconds)
    return decided(*PAIR, **({"status": training_status("a", "b"), "records": (told, BOTH[1])} | facts))


@pytest.mark.parametrize(
    ("seconds", "spec", "status", "message"),
    [
        (None, TWO_POOLS, "Unknown", "no save has been timed yet"),
        (12, TWO_POOLS, "True", "a save takes 12 s of the 12 s for it"),
        (
            12.04,
            TWO_POOLS,
            "True",
            "a save takes 12 s of the 12 s for it",
        ),
        (
            12.6,
            TWO_POOLS,
            "False",
            "a save takes 12.6 s, and a worker that is told to end has 12 s for it: use a faster volume in "
            "checkpoint.storage, or a shorter checkpoint.interval so that less is lost",
        ),
        (60, MINIMAL, "True", "a save takes 60 s of the 107 s for it"),
    ],
    ids=["none yet", "just fits", "rounded", "too slow on spot", "on demand"],
)
def test_a_save_fits_into_the_grace_or_not(seconds: float | None, spec: Any, status: str, message: str) -> None:
    told = conditions(saved_in(seconds, spec=spec))["GraceSufficient"]
    assert (told["status"], told["message"]) == (status, message)


def test_a_save_that_is_too_slow_is_an_event_once_and_is_remembered() -> None:
    slow = saved_in(20.0)
    assert ("SavesTooSlow", "Warning") in {(one.reason, one.type) for one in slow.events}
    assert status_of(slow)["checkpoint"]["saveSecondsP99"] == 20
    silent = decided(*PAIR, status=slow.status)
    assert conditions(silent)["GraceSufficient"]["reason"] == "SavesTooSlow"
    assert silent.events == ()


def test_where_nobody_saves_when_taken_away_there_is_nothing_to_compare() -> None:
    assert "GraceSufficient" not in conditions(
        saved_in(20.0, spec=spec_with(TWO_POOLS, checkpoint__onPreemption=False))
    )


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_none(seconds: float) -> None:
    assert conditions(saved_in(seconds))["GraceSufficient"]["status"] == "Unknown"
