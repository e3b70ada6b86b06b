"""Writes at which the API server itself failed: an admission webhook that does not answer, most often.

A failure of a moment is none of a user's business: the reconcile is begun again. But a webhook that stays away answers
every try with a 500, and the pass would never come as far as the status that says so.
"""

from collections import Counter, defaultdict

from diffusion_operator.kube.keys import Key

PATIENCE = 5
"""Tries that may fail one after the other; with the queue's pauses they take about a second."""


class FailingWrites:
    """How often each object could not be written, one time after the other."""

    def __init__(self) -> None:
        self._failures: dict[Key, Counter[str]] = defaultdict(Counter)

    def failed(self, key: Key, what: str) -> bool:
        """It failed once more. Returns whether that is a fact by now, rather than a moment's failure."""
        self._failures[key][what] += 1
        return self._failures[key][what] >= PATIENCE

    def succeeded(self, key: Key, what: str) -> None:
        """The API server gave an answer of its own."""
        if key in self._failures:
            del self._failures[key][what]
            if not self._failures[key]:
                del self._failures[key]

    def forget(self, key: Key) -> None:
        """The custom resource is gone."""
        self._failures.pop(key, None)
