"""Whether kopf still hears: what a list of ours found, kopf must have told before long.

kopf's watch of a custom resource is none of our informers: nobody here sees its bookmarks, and at rest a deaf watch and
a silent one look alike. But the same objects are listed every two minutes. What is new in such a list is either on its
way to us through kopf too, or will never come: that is known no later than that another kind is silent. Only deletions
are no proof: kopf does not tell what went while it reconnected.
"""

import time
from collections.abc import Callable, Iterable

from diffusion_operator.kube.resources import CUSTOM_RESOURCES, Resource
from diffusion_operator.kube.store import Change, version_of
from diffusion_operator.observe.snapshot import Raw

LONGEST_DELAY = 60.0
"""Seconds in which kopf must have told what a list found; its longest pause before it reconnects is 34 s."""

SOUNDING_SECONDS = 120.0
"""How often the custom resources are listed. With LONGEST_DELAY it stays below the silence that health allows."""


class Hearing:
    """What is owed by kopf, and since when (on the monotonic clock)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._owed: dict[Resource, dict[str, tuple[int, float]]] = {resource: {} for resource in CUSTOM_RESOURCES}

    def told(self, resource: Resource, item: Raw) -> None:
        """Kopf told of this version."""
        version, _ = self._owed[resource].get(_uid(item), (0, 0.0))
        if version_of(item) >= version:
            self._settle(resource, item)

    def told_gone(self, resource: Resource, item: Raw) -> None:
        """Kopf told that this object is gone."""
        self._settle(resource, item)

    def found(self, changes: Iterable[Change]) -> None:
        """A list brought this before kopf did."""
        for change in changes:
            if (new := change.new) is not None:
                owed = self._owed[change.resource]
                _, since = owed.get(_uid(new), (0, self._clock()))
                owed[_uid(new)] = (version_of(new), since)

    def changed(self, change: Change) -> None:
        """A listener of the store: of what is gone, or has made way for a namesake, nothing more can be told."""
        old, new = change.old, change.new
        if change.resource in self._owed and old is not None and (new is None or _uid(new) != _uid(old)):
            self._settle(change.resource, old)

    @property
    def is_owed(self) -> bool:
        """Whether anything is to be told yet. A list says soon whether it was only a deletion that was missed."""
        return any(self._owed.values())

    def why_deaf(self) -> str | None:
        """A sentence, or None while kopf tells what it should."""
        horizon = self._clock() - LONGEST_DELAY
        for resource, owed in self._owed.items():
            if late := sum(since < horizon for _, since in owed.values()):
                return f"the watch of {resource.plural} has not told {late} changes that a list found"
        return None

    def _settle(self, resource: Resource, item: Raw) -> None:
        self._owed[resource].pop(_uid(item), None)


def _uid(item: Raw) -> str:
    return str(item["metadata"].get("uid", ""))
