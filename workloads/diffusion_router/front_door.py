"""Whether the router takes requests, and how many it holds at once."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from diffusion_router.door.errors import retry_later

MAX_IN_FLIGHT = 512
"""Requests that may wait for engines at once; each holds a connection and an answer in memory."""
LAME_DUCK_SECONDS = 2.0
"""After SIGTERM requests are still taken for so long, until every proxy knows that this pod is not ready any more."""
DRAIN_SECONDS = 25.0


class FrontDoor:
    """Open, or closing: `ready` turns false at once, and requests are answered for a while longer."""

    def __init__(self, satisfied: Callable[[], bool], max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._satisfied = satisfied
        self._max_in_flight = max_in_flight
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0
        """Requests that wait for an engine now."""

    @property
    def ready(self) -> bool:
        """Whether new requests should come here: there is no better router to wait for, and the end is not near."""
        return self._satisfied() and not self._closing

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Count a request while the block runs; raises ApiError (429) when too many are here already."""
        if self.in_flight >= self._max_in_flight:
            raise retry_later("too_many_requests", "too many requests are waiting already", 1)
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    async def close(self, lame_duck_seconds: float = LAME_DUCK_SECONDS, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Say that this pod is not ready, wait until that is known, then for the requests that are being answered."""
        self._closing = True
        await asyncio.sleep(lame_duck_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), drain_seconds)
