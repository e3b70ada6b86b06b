"""Events for `kubectl describe`: one object for each sentence about a custom resource, counted instead of repeated."""

import hashlib
from collections import OrderedDict
from datetime import datetime

from diffusion_operator.kube.client import FIELD_MANAGER, ApiClient
from diffusion_operator.kube.errors import Conflict, NotFound
from diffusion_operator.kube.resources import EVENT
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.plan import Event

_LONGEST_NOTE, _LONGEST_INSTANCE = 1024, 128
"""Bytes of UTF-8 that the API server takes."""
_REMEMBERED = 4096


class Events:
    """Records events. A name is a function of the sentence, so that a restarted operator counts on in the same one."""

    def __init__(self, client: ApiClient, instance: str) -> None:
        self._client, self._instance = client, _cut(instance, _LONGEST_INSTANCE)
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def record(self, about: Raw, event: Event, now: datetime) -> None:
        """Say it once more about this object. Raises KubeError."""
        namespace, name = about["metadata"]["namespace"], _name(about, event)
        count = self._counts.get((namespace, name), 0)
        if count:
            try:
                return await self._repeat(namespace, name, count + 1, now)
            except NotFound:
                pass  # The API server forgets events after an hour: it is said for the first time again.
        try:
            await self._client.create(EVENT, self._manifest(about, event, name, now))
            self._remember((namespace, name), 1)
        except Conflict:
            stored = await self._client.get(EVENT, namespace, name)
            told = (stored or {}).get("series", {}).get("count", 1)
            await self._repeat(namespace, name, told + 1, now)

    async def _repeat(self, namespace: str, name: str, count: int, now: datetime) -> None:
        series = {"count": count, "lastObservedTime": _micro(now)}
        await self._client.merge(EVENT, namespace, name, {"series": series})
        self._remember((namespace, name), count)

    def _remember(self, key: tuple[str, str], count: int) -> None:
        self._counts[key] = count
        self._counts.move_to_end(key)
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)

    def _manifest(self, about: Raw, event: Event, name: str, now: datetime) -> Raw:
        metadata = about["metadata"]
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": _micro(now),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "reason": event.reason,
            "note": _cut(event.message, _LONGEST_NOTE),
            "type": event.type,
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }


def _name(about: Raw, event: Event) -> str:
    said = "\0".join((about["metadata"]["uid"], event.type, event.reason, event.message))
    return f"{about['metadata']['name'][:200]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _cut(text: str, longest: int) -> str:
    """The first bytes of a text, in whole characters."""
    return text.encode()[:longest].decode(errors="ignore")


def _micro(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
