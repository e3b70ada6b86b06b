"""Namespaces of a list that cannot be read: one that was deleted takes its RoleBinding with it, and the others go on.

While the API server forbids any list of a namespace, nothing of it is reconciled, for its children could only be
guessed at. When it can be read again the process starts afresh: kopf listens only to what was open at its start.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterable

from diffusion_operator.kube.informer import Informer

_log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds of refusals after which the first lists of a namespace are waited for no longer: roles may come late."""

LOOK_AGAIN = 5.0
"""Seconds between two looks."""


class ClosedNamespaces:
    """Which of the namespaces that `informers` read by name are closed. "" is all namespaces, and is never closed."""

    def __init__(self, informers: Iterable[Informer]) -> None:
        self._informers: dict[str, list[Informer]] = defaultdict(list)
        for informer in informers:
            self._informers[informer.namespace].append(informer)

    def __contains__(self, namespace: str) -> bool:
        """Whether `namespace` is closed."""
        informers = self._informers.get(namespace, ()) if namespace else ()
        return any(not informer.synced.is_set() for informer in informers)

    async def first_lists(self) -> None:
        """Wait until all is read but what is forbidden for good."""
        for informers in self._informers.values():
            for informer in informers:
                while not informer.synced.is_set() and informer.refused_for() < PATIENCE:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(informer.synced.wait(), 0.2)

    async def until_one_opens(self) -> str:
        """Say which namespaces are closed, and return the first that can be read again."""
        closed: set[str] = set()
        while True:
            now = {namespace for namespace in self._informers if namespace in self}
            for namespace in sorted(now - closed):
                _log.warning(
                    "namespace %s is left alone, because its objects may not be read: make it and its roles with "
                    "`helm upgrade`, or take it out of watchNamespaces",
                    namespace,
                )
            if opened := closed - now:
                return min(opened)
            closed = now
            await asyncio.sleep(LOOK_AGAIN)
