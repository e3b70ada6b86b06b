"""Waiting for a condition with a deadline, in place of sleeping for a time that somebody guessed."""

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")
PATIENCE = 4
"""Tests say what a condition takes on a quiet machine, amply; a busy one gets this many times longer to bring it."""


def wait_until(predicate: Callable[[], T | Literal[False] | None], seconds: float, what: str, every: float = 0.05) -> T:
    """Call `predicate` until it returns something true; AssertionError names `what` after PATIENCE times `seconds`."""
    deadline = time.monotonic() + PATIENCE * seconds
    while True:
        if result := predicate():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE * seconds:g} s: {what} (last: {result!r})")
        time.sleep(every)
