"""Answers of the API server that are good for a few seconds, for what nobody watches: a crowd of passes asks once."""

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")

FRESH_SECONDS = 10.0


class FreshAnswers(Generic[Question, Answer]):
    """Asks again what has become old. Where asking raises, nothing is remembered."""

    def __init__(self, ask: Callable[[Question], Awaitable[Answer]]) -> None:
        self._ask = ask
        self._known: dict[Question, tuple[float, Answer]] = {}

    async def to(self, question: Question) -> Answer:
        """The answer, at most FRESH_SECONDS old."""
        known = self._known.get(question)
        if known is None or not _is_fresh(known):
            answer = await self._ask(question)
            self._known = {asked: other for asked, other in self._known.items() if _is_fresh(other)}
            self._known[question] = known = (time.monotonic(), answer)
        return known[1]


def _is_fresh(known: tuple[float, object]) -> bool:
    return time.monotonic() - known[0] < FRESH_SECONDS
