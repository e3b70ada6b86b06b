"""A network of names and engines that the test controls, with a router's search for engines in it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from diffusion_contract.agent_messages import Route, RouterInstruction
from diffusion_router.discovery import Discovery
from diffusion_router.engine_table import EngineTable
from diffusion_router.route_book import RouteBook

DIGEST = "sha256:" + "0" * 64
STABLE = Route(revision="stable", host="stable.test", port=8000, model_digest=DIGEST, weight=100)


def to(*routes: Route) -> RouterInstruction:
    return RouterInstruction(routes=routes)


def ready(revision: str = "stable", steps: int = 0) -> httpx.Response:
    return httpx.Response(200, json={"ready": True, "revision": revision, "outstanding_steps": steps})


class Network:
    """Names and engines: `names` maps host to addresses, `engines` maps address to its answer or failure."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, list[str]] = {}
        self.slow: set[str] = set()
        self.engines: dict[str, Callable[[], httpx.Response]] = {}
        self.changes = 0
        self.changed = asyncio.Event()
        self.table = EngineTable()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        self.book = RouteBook(folder, RouterInstruction(routes=(STABLE,)))
        self.now = 0.0
        self.discovery = Discovery(self.table, self.book, client, self._changed, lambda: self.now)
        monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", self._resolve)

    async def _resolve(self, host: str, port: int, **_: Any) -> list[Any]:
        if host in self.slow:
            await asyncio.Event().wait()
        if host not in self.names:
            raise OSError(-2, "Name or service not known")
        return [(2, 1, 6, "", (address, port)) for address in self.names[host]]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host not in self.engines:
            raise httpx.ConnectError("refused", request=request)
        return self.engines[request.url.host]()

    def _changed(self) -> None:
        self.changes += 1
        self.changed.set()

    @property
    def ready(self) -> set[str]:
        return {engine.url for engine in self.table if engine.ready}
