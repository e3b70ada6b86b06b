"""Events about objects whose controller could not make their pods: asked for only where pods are missing."""

import logging
from collections.abc import Iterable, Mapping

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import KubeError
from diffusion_operator.kube.fresh_answers import FreshAnswers
from diffusion_operator.kube.resources import EVENT
from diffusion_operator.observe.creation_failures import CREATION_FAILED
from diffusion_operator.observe.snapshot import Raw

_log = logging.getLogger(__name__)

LIMIT = "50"
"""Controllers repeat themselves in one event, or in a few: what is beyond this many says nothing new."""


class CreationFailures:
    """Looks the events up by the UID of the object that they are about."""

    def __init__(self, client: ApiClient) -> None:
        self._client, self._answers = client, FreshAnswers(self._ask)

    async def look_up(self, namespace: str, uids: Iterable[str]) -> Mapping[str, tuple[Raw, ...]]:
        """The events about each of these objects."""
        return {uid: await self._answers.to((namespace, uid)) for uid in uids}

    async def _ask(self, about: tuple[str, str]) -> tuple[Raw, ...]:
        """Events explain, and no more: where they cannot be read, survivors must hear of their next generation."""
        namespace, uid = about
        selector = f"regarding.uid={uid},reason={CREATION_FAILED}"
        try:
            listed = await self._client.page(EVENT, namespace, {"fieldSelector": selector, "limit": LIMIT})
        except KubeError as error:
            _log.warning("the events about %s cannot be read: %s", uid, error)
            return ()
        return tuple(listed.get("items") or ())
