"""Thresholds of probes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_local.node.probe_tally import Tally, count, period, port_number, threshold, timeout


def verdicts(probe: dict[str, Any], answers: list[bool]) -> list[bool | None]:
    tally, seen = Tally(), []
    for answer in answers:
        tally = count(probe, tally, answer)
        seen.append(tally.verdict)
    return seen


def test_three_failures_in_a_row_by_default() -> None:
    assert verdicts({}, [False, False, False]) == [None, None, False]
    assert verdicts({}, [False, False, True, False, False]) == [None, None, True, True, True]


def test_thresholds_of_its_own() -> None:
    probe = {"failureThreshold": 1, "successThreshold": 2}
    assert verdicts(probe, [True, True, False, True, True]) == [None, True, False, False, True]


@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.booleans(), max_size=30))
def test_a_verdict_is_backed_by_enough_equal_answers(failures: int, successes: int, answers: list[bool]) -> None:
    probe = {"failureThreshold": failures, "successThreshold": successes}
    seen = verdicts(probe, answers)
    before: bool | None = None
    for index, verdict in enumerate(seen):
        if verdict != before:
            needed = successes if verdict else failures
            assert answers[index - needed + 1 : index + 1] == [verdict] * needed
        before = verdict


def test_defaults_and_settings() -> None:
    assert (period({}), timeout({}), threshold({})) == (10.0, 1.0, 3)
    given_probe = {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 7}
    assert (period(given_probe), timeout(given_probe), threshold(given_probe)) == (2.0, 5.0, 7)


def test_ports_by_number_and_name() -> None:
    container = {"name": "c", "ports": [{"name": "web", "containerPort": 8000}]}
    assert port_number(80, container) == 80
    assert port_number("81", container) == 81
    assert port_number("web", container) == 8000
    with pytest.raises(ValueError, match="no port named 'other'"):
        port_number("other", container)
