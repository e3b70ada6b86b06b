"""Engines as the router's forwarder meets them, each of which behaves as a test says."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from diffusion_contract.agent_messages import Route
from diffusion_router.door.errors import ApiError
from diffusion_router.engine_table import EngineTable
from diffusion_router.forwarding import Answer, Call, Forwarder

DIGEST = "sha256:" + "0" * 64
CALL = Call("POST", "/v1/images/generations", "Bearer k", b"{}", work=8)
Behaviour = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class Engines:
    """Engines by address, each with a behaviour, behind a Forwarder; `asked` are their addresses in order."""

    def __init__(self, weights: dict[str, int] | None = None) -> None:
        self.asked: list[str] = []
        self.retries: list[str] = []
        self.table = EngineTable()
        self.behaviour: dict[str, Behaviour] = {}
        self.routes = tuple(
            Route(revision=name, host=name, port=80, model_digest=DIGEST, weight=weight)
            for name, weight in (weights or {"r": 100}).items()
        )
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.forwarder = Forwarder(self.table, lambda: self.routes, client, self.retries.append)

    def add(self, address: str, behaviour: Behaviour, revision: str = "r") -> None:
        self.behaviour[address] = behaviour
        route = next(route for route in self.routes if route.revision == revision)
        known = [httpx.URL(engine.url).host for engine in self.table if engine.revision == revision]
        self.table.resolved(route, [*known, address])
        for engine in self.table:
            engine.answered(ready=True, outstanding_steps=0)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        answer = self.behaviour[request.url.host](request)
        return await answer if isinstance(answer, Awaitable) else answer

    def send(self) -> Answer:
        return asyncio.run(self.forwarder.send(CALL))

    def refusal(self) -> ApiError:
        with pytest.raises(ApiError) as caught:
            self.send()
        return caught.value


def good(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"by": request.url.host})
