"""A very small API server for tests of the node agent's clients: objects in a list, watches, and faults on demand."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from deadline import PATIENCE
from diffusion_local.node.api_client import ApiClient


class TinyApi:
    """Answers lists and watches from `items`, and everything else with what `answers` gives for (method, path)."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.version = 1
        self.requests: list[tuple[str, str, Any]] = []
        self.answers: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        """What to answer, one after the other; the last one for ever."""
        self.watches: list[asyncio.Queue[dict[str, Any] | None]] = []

    def answer(self, method: str, path: str, *answers: tuple[int, Any]) -> None:
        """Set the answers to a request."""
        self.answers[method, path] = list(answers)

    def put(self, kind: str, manifest: dict[str, Any]) -> None:
        """Change the list, and tell every watch; `kind` is ADDED, MODIFIED or DELETED."""
        self.version += 1
        manifest = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        self.items = [item for item in self.items if item["metadata"]["name"] != manifest["metadata"]["name"]]
        if kind != "DELETED":
            self.items.append(manifest)
        self.tell({"type": kind, "object": manifest})

    def tell(self, event: dict[str, Any] | None) -> None:
        """Send an event to every watch; None ends them."""
        for queue in self.watches:
            queue.put_nowait(event)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        body = orjson.loads(await request.read() or b"null")
        self.requests.append((request.method, request.path, body))
        if planned := self.answers.get((request.method, request.path)):
            status, payload = planned.pop(0) if len(planned) > 1 else planned[0]
            return web.Response(status=status, body=orjson.dumps(payload))
        if request.query.get("watch") == "true":
            return await self.watch(request)
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": self.items})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """Events until told to end."""
        answer = web.StreamResponse()
        await answer.prepare(request)
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.watches.append(queue)
        try:
            while (event := await queue.get()) is not None:
                await answer.write(orjson.dumps(event) + b"\n")
        finally:
            self.watches.remove(queue)
        return answer


@asynccontextmanager
async def tiny_api() -> AsyncIterator[tuple[TinyApi, ApiClient]]:
    """A running server and a client of it."""
    server = TinyApi()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with ApiClient(f"http://127.0.0.1:{port}", ssl.create_default_context()) as client:
            yield server, client
    finally:
        server.tell(None)
        await runner.cleanup()


async def eventually(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> None:
    """Wait for a condition without holding up the loop; AssertionError names `what`."""

    async def poll() -> None:
        while not condition():  # noqa: ASYNC110 (any condition)
            await asyncio.sleep(0.01)

    try:
        await asyncio.wait_for(poll(), PATIENCE * seconds)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE * seconds:g} s: {what}") from None


def with_tiny_api(test: Callable[[TinyApi, ApiClient], Awaitable[None]]) -> None:
    """Run an asynchronous test against a fresh server."""

    async def run() -> None:
        async with tiny_api() as (server, client):
            await test(server, client)

    asyncio.run(run())


def written(server: TinyApi, method: str, path: str) -> list[Any]:
    """The bodies of all requests of this kind."""
    return [body for verb, where, body in server.requests if (verb, where) == (method, path)]
