"""Which revision and which engine answers a request: pure decisions.

Revisions take turns by weight (smooth weighted round robin): in any 100 requests in a row each gets exactly its
weight, and the turns of a small weight are spread out instead of coming together.

Among the ready engines of a revision the one with the least outstanding work wins, counted in steps times images: a
request of 50 steps is not as cheap as one of 4. Equal ones take turns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineLoad:
    """One engine as the choice sees it. `work` is in steps times images; `last_used` grows with every use."""

    address: str
    ready: bool
    work: int
    last_used: int


def least_work(engines: Iterable[EngineLoad], tried: frozenset[str] = frozenset()) -> EngineLoad | None:
    """The ready engine with the least work that has not been tried yet; the longest unused of equal ones."""
    candidates = [engine for engine in engines if engine.ready and engine.address not in tried]
    return min(candidates, key=lambda engine: (engine.work, engine.last_used, engine.address), default=None)


class WeightedTurns:
    """Whose turn it is among revisions with weights."""

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

    def order(self, weights: Mapping[str, int]) -> tuple[str, ...]:
        """The revision whose turn it is, then those to fall back to by falling weight; weight 0 gets nothing."""
        sharing = {revision: weight for revision, weight in weights.items() if weight > 0}
        if not sharing:
            return ()
        self._credit = {revision: self._credit.get(revision, 0) + weight for revision, weight in sharing.items()}
        turn = max(sharing, key=lambda revision: (self._credit[revision], revision))
        self._credit[turn] -= sum(sharing.values())
        others = sorted(sharing.keys() - {turn}, key=lambda revision: (-sharing[revision], revision))
        return (turn, *others)


def work_of_others(reported: int, ours: int) -> int:
    """What an engine has to do for other routers: its own count less what we have sent to it."""
    return max(0, reported - ours)
