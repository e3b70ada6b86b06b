"""Real connections to a server on this machine."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from aiohttp import web

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import ApiRefusal, Unreachable
from diffusion_operator.kube.resources import CHILDREN, POD, Resource
from diffusion_operator.kube.transport import JSON, HttpTransport
from ear_api import serving
from operator_harness import until


class Server:
    """Holds every watch open, and answers everything else."""

    def __init__(self) -> None:
        self.watches = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({})
        if request.path.endswith("/refused"):
            return web.Response(status=410, text="too old")
        self.watches += 1
        answer = web.StreamResponse()
        await answer.prepare(request)
        if request.path.endswith("/lively"):
            await answer.write(b'{"a": 1}\n{"b"')
            await answer.write(b": 2}\n")
        await asyncio.Event().wait()
        return answer


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[Server, HttpTransport]]:
    server = Server()
    async with serving(server.serve) as connection:
        transport = HttpTransport(connection, timeout=30)
        try:
            yield server, transport
        finally:
            await transport.close()


async def drain(lines: AsyncGenerator[object, None], seen: list[object] | None = None) -> None:
    async with contextlib.aclosing(lines):
        async for line in lines:
            if seen is not None:
                seen.append(line)


async def test_the_watches_of_many_namespaces_leave_connections_for_requests() -> None:
    namespaces = 12
    async with served() as (server, transport):
        paths = [resource.path(f"ns-{number}") for number in range(namespaces) for resource in CHILDREN]
        assert len(paths) > 64
        watches = [asyncio.create_task(drain(transport.lines(path, {"watch": "1"}, 60))) for path in paths]
        await until(lambda: server.watches == len(paths), 10, "all watches")
        requests = [transport.request("GET", "/api/v1/pods", {}, None, JSON) for _ in range(100)]
        replies = await asyncio.wait_for(asyncio.gather(*requests), 60)
        assert {reply.code for reply in replies} == {200}
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def test_lines_come_whole_and_silence_is_noticed() -> None:
    async with served() as (_, transport):
        seen: list[object] = []
        with pytest.raises(Unreachable):
            await drain(transport.lines("/lively", {"watch": "1"}, 0.2), seen)
        assert seen == [b'{"a": 1}', b'{"b": 2}']


async def test_watches_are_counted_by_what_became_of_them() -> None:
    async with served() as (_, transport):
        calls: list[tuple[str, str]] = []
        client = ApiClient(transport, lambda verb, code, seconds: calls.append((verb, code)))

        with pytest.raises(ApiRefusal):
            await drain(client.watch(Resource("v1", "Place", "refused"), "", {"watch": "1"}, 0.2))
        for place in ("lively", "silent"):
            with pytest.raises(Unreachable):
                await drain(client.watch(Resource("v1", "Place", place), "", {"watch": "1"}, 0.2))
        assert calls == [("WATCH", "410"), ("WATCH", "200"), ("WATCH", "unreachable")]
        await client.page(POD, "", {})
        assert calls[-1] == ("GET", "200")
