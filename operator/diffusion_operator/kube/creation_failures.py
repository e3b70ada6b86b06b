"""Events about objects whose controller could not make their pods: asked for only where pods are missing."""

import logging
import time
from collections.abc import Iterable, Mapping

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import KubeError
from diffusion_operator.kube.resources import EVENT
from diffusion_operator.observe.creation_failures import CREATION_FAILED
from diffusion_operator.observe.snapshot import Raw

_log = logging.getLogger(__name__)

FRESH_SECONDS = 10.0
LIMIT = "50"
"""Controllers repeat themselves in one event, or in a few: what is beyond this many says nothing new."""


class CreationFailures:
    """Looks the events up by the UID of the object that they are about; an answer is good for a few seconds."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._known: dict[str, tuple[float, tuple[Raw, ...]]] = {}

    async def look_up(self, namespace: str, uids: Iterable[str]) -> Mapping[str, tuple[Raw, ...]]:
        """The events about each of these objects."""
        return {uid: await self._one(namespace, uid) for uid in uids}

    async def _one(self, namespace: str, uid: str) -> tuple[Raw, ...]:
        horizon = time.monotonic() - FRESH_SECONDS
        for stale in [known for known, (at, _) in self._known.items() if at < horizon]:
            del self._known[stale]
        if uid not in self._known:
            events = await self._ask(namespace, uid)
            self._known[uid] = (time.monotonic(), events)
        return self._known[uid][1]

    async def _ask(self, namespace: str, uid: str) -> tuple[Raw, ...]:
        """Events explain, and no more: where they cannot be read, survivors must hear of their next generation."""
        selector = f"regarding.uid={uid},reason={CREATION_FAILED}"
        try:
            listed = await self._client.page(EVENT, namespace, {"fieldSelector": selector, "limit": LIMIT})
        except KubeError as error:
            _log.warning("the events about %s cannot be read: %s", uid, error)
            return ()
        return tuple(listed.get("items") or ())
