"""Finding engines: resolve each route's headless Service every second, and ask each address whether it is ready."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

import httpx

from diffusion_contract.agent_messages import Route
from diffusion_router.engine_table import EngineState, EngineTable
from diffusion_router.route_book import RouteBook

_LOGGER = logging.getLogger(__name__)
ROUND_SECONDS = 1.0
CHECK_SECONDS = 2.0
RESOLVE_SECONDS = 2.0


class Discovery:
    """Keeps an EngineTable true to DNS and to what the engines say of themselves."""

    def __init__(
        self,
        table: EngineTable,
        book: RouteBook,
        client: httpx.AsyncClient,
        changed: Callable[[], None],
    ) -> None:
        self._table = table
        self._book = book
        self._client = client
        self._changed = changed
        self.complete = False
        """Whether one whole round is over: before it nothing is known, and the router is not ready."""

    async def run(self) -> None:
        """Go round after round until cancelled; news of routes begins the next round at once."""
        while True:
            self._book.news.clear()
            await self.one_round()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._book.news.wait(), ROUND_SECONDS)

    async def one_round(self) -> None:
        """Resolve all routes, then ask all engines; `changed` is called when the ready ones are others than before."""
        before = self.ready_engines()
        self._table.keep_only(route.revision for route in self._book.watched)
        await asyncio.gather(*(self._resolve(route) for route in self._book.watched))
        await asyncio.gather(*(self._check(engine) for engine in self._table))
        now = self.ready_engines()
        self._book.settle(now)
        self.complete = True
        if now != before:
            _LOGGER.info("ready engines: %s", now)
            self._changed()

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
            answer = await self._client.get(f"{engine.url}/readyz", timeout=CHECK_SECONDS)
            said = answer.json()
            ready = answer.status_code == 200 and said["revision"] == engine.revision
            engine.answered(ready, int(said.get("outstanding_steps", 0)))
        except httpx.TimeoutException:
            engine.timed_out()
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            engine.unreachable()
