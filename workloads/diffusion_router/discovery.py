"""Finding engines: resolve each route's headless Service every second, and ask each address whether it is ready.

A round may meet anything: whatever answers at an address is a stranger until it has said who it is. What goes wrong
with one engine is logged and disturbs no other, and what goes wrong with a round does not end the search; a router
whose rounds do not come to an end any more is not alive.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable

import httpx

from diffusion_contract.agent_messages import Route
from diffusion_router.engine_table import EngineState, EngineTable
from diffusion_router.route_book import RouteBook

_LOGGER = logging.getLogger(__name__)
ROUND_SECONDS = 1.0
CHECK_SECONDS = 2.0
RESOLVE_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
"""A new router waits so long for a first engine before it takes requests all the same, to say that there is none."""
STUCK_SECONDS = 30.0
"""Without a finished round for so long the search for engines has stopped: only a new process can help."""


class Discovery:
    """Keeps an EngineTable true to DNS and to what the engines say of themselves."""

    def __init__(
        self,
        table: EngineTable,
        book: RouteBook,
        client: httpx.AsyncClient,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._began = self._finished = clock()
        self._table = table
        self._book = book
        self._client = client
        self._changed = changed
        self.satisfied = False
        """Whether requests may come: an engine was found, or none is to be found, or none was in PATIENCE_SECONDS.

        Once so it stays so: a service that has lost its engines answers with an error that says it.
        """

    @property
    def healthy(self) -> bool:
        """Whether rounds still come to an end."""
        return self._clock() - self._finished < STUCK_SECONDS

    async def run(self) -> None:
        """Go round after round until cancelled; news of routes begins the next round at once."""
        while True:
            self._book.news.clear()
            try:
                await self.one_round()
            except Exception:
                _LOGGER.exception("a round of looking for engines failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._book.news.wait(), ROUND_SECONDS)

    async def one_round(self) -> None:
        """Resolve all routes, then ask all engines; `changed` is called when something is other than before."""
        before = self.ready_engines(), self._book.routed
        self._table.keep_only(route.revision for route in self._book.watched)
        await asyncio.gather(*(self._resolve(route) for route in self._book.watched))
        await asyncio.gather(*(self._check(engine) for engine in self._table))
        now = self.ready_engines()
        self._book.settle(now)
        self._finished = self._clock()
        self.satisfied = self.satisfied or self._is_enough(now)
        if (now, self._book.routed) != before:
            _LOGGER.info("ready engines: %s", now)
            self._changed()

    def _is_enough(self, ready: dict[str, int]) -> bool:
        routed = self._book.routed or ()
        found = any(ready.get(revision) for revision in routed)
        return found or not routed or self._clock() - self._began > PATIENCE_SECONDS

    def ready_engines(self) -> dict[str, int]:
        """How many engines of each watched revision say that they are ready."""
        return self._table.ready_counts(route.revision for route in self._book.watched)

    async def _resolve(self, route: Route) -> None:
        loop = asyncio.get_running_loop()
        try:
            resolving = loop.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM)
            found = await asyncio.wait_for(resolving, RESOLVE_SECONDS)
        except OSError as problem:  # a name that does not exist, a name server that is away, or one that is too slow
            _LOGGER.debug("%s: %s", route.host, problem)
            found = []
        self._table.resolved(route, {str(address[0]) for *_, address in found})

    async def _check(self, engine: EngineState) -> None:
        """One engine's own word. Its revision must be ours: the address may belong to another service by now."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):  # for all of the answer: httpx has one for each piece of it
                answer = await self._client.get(f"{engine.url}/readyz")
            said = answer.json()
            ready = answer.status_code == 200 and said["revision"] == engine.revision
            draining = said["revision"] == engine.revision and said.get("phase") == "Draining"
            engine.answered(ready, int(said.get("outstanding_steps", 0)), draining)
        except (TimeoutError, httpx.TimeoutException):
            engine.timed_out()
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            engine.unreachable()
        except Exception:
            _LOGGER.exception("%s answered what nobody foresaw", engine.url)
            engine.unreachable()
