"""Finding engines: resolve each route's headless Service every second, and ask each address whether it is ready."""

import asyncio
import logging
import socket
from collections.abc import Callable

import httpx

from diffusion_contract.agent_messages import Route
from diffusion_router.engine_table import EngineState, EngineTable

_LOGGER = logging.getLogger(__name__)
ROUND_SECONDS = 1.0
CHECK_SECONDS = 2.0
RESOLVE_SECONDS = 2.0


class Discovery:
    """Keeps an EngineTable true to DNS and to what the engines say of themselves."""

    def __init__(
        self,
        table: EngineTable,
        routes: Callable[[], tuple[Route, ...]],
        client: httpx.AsyncClient,
        changed: Callable[[], None],
    ) -> None:
        self._table = table
        self._routes = routes
        self._client = client
        self._changed = changed
        self.complete = False
        """Whether one whole round is over: before it nothing is known, and the router is not ready."""

    async def run(self) -> None:
        """Go round after round until cancelled."""
        while True:
            await self.one_round()
            await asyncio.sleep(ROUND_SECONDS)

    async def one_round(self) -> None:
        """Resolve all routes, then ask all engines; `changed` is called when the ready ones are others than before."""
        routes = self._routes()
        before = self._table.ready_counts(route.revision for route in routes)
        self._table.keep_only(route.revision for route in routes)
        await asyncio.gather(*(self._resolve(route) for route in routes))
        await asyncio.gather(*(self._check(engine) for engine in self._table))
        now = self._table.ready_counts(route.revision for route in routes)
        self.complete = True
        if now != before:
            _LOGGER.info("ready engines: %s", now)
            self._changed()

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
