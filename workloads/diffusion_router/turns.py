"""Whose turn it is among revisions with weights: smooth weighted round robin.

In any 100 requests in a row each revision gets exactly its weight, and the turns of a small weight are spread out
instead of coming together.
"""

from collections.abc import Mapping


class WeightedTurns:
    """Remembers how much of its weight each revision has had."""

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
