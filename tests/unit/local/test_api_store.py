"""List and watch against a server that answers as it is told, without Kubernetes."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from diffusion_local.api import ApiClient, ApiError, Store
from diffusion_local.certificates import Authority

Event = dict[str, Any] | None
Until = Callable[..., Awaitable[None]]


class ScriptedServer:
    """Answers /things: a list from `items`, and a watch from the queue `events` (None ends the connection)."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.lists = 0
        self.watched_from: list[str] = []
        self.failures = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            self.lists += 1
            if self.failures:
                self.failures -= 1
                return web.json_response({"message": "not now"}, status=503)
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": self.items})
        self.watched_from.append(request.query["resourceVersion"])
        stream = web.StreamResponse()
        await stream.prepare(request)
        while (event := await self.events.get()) is not None:
            await stream.write(json.dumps(event).encode() + b"\n")
        return stream


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[ScriptedServer, ApiClient]]:
    authority = Authority(folder)
    pair = authority.server("server", ["localhost"], ["127.0.0.1"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    script = ScriptedServer()
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", script.answer)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    client = ApiClient(
        f"https://127.0.0.1:{port}", str(authority.files.certificate), authority.client("me", "me", ["us"])
    )
    try:
        yield script, client
    finally:
        await client.close()
        script.events.put_nowait(None)
        await runner.cleanup()


def thing(name: str, version: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name, "resourceVersion": version}, **more}


def play(folder: Path, body: Callable[[ScriptedServer, Store, Until], Awaitable[None]]) -> None:
    """Run `body` beside a following store; the third argument waits until the store's names are the given ones."""

    async def run() -> None:
        async with served(folder) as (script, client):
            changed = asyncio.Event()
            store = Store(client, "/things", changed.set)

            async def until(*names: str) -> None:
                while {name for _, name in store.objects} != set(names):
                    await changed.wait()
                    changed.clear()

            following = asyncio.create_task(store.run())
            try:
                await asyncio.wait_for(body(script, store, until), 60)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    asyncio.run(run())


def test_a_store_begins_with_the_list_and_follows_what_changes(tmp_path: Path) -> None:
    async def body(script: ScriptedServer, store: Store, until: Until) -> None:
        script.events.put_nowait({"type": "ADDED", "object": thing("a", "2")})
        await until("a")
        script.events.put_nowait({"type": "ADDED", "object": thing("b", "3")})
        script.events.put_nowait({"type": "MODIFIED", "object": thing("a", "4", size=5)})
        script.events.put_nowait({"type": "DELETED", "object": thing("b", "5")})
        script.events.put_nowait({"type": "ADDED", "object": thing("c", "6")})
        await until("a", "c")
        assert store.objects["ns", "a"]["size"] == 5
        assert script.lists == 1

    play(tmp_path, body)


def test_a_watch_that_ends_goes_on_where_it_was_bookmarks_included(tmp_path: Path) -> None:
    async def body(script: ScriptedServer, store: Store, until: Until) -> None:
        script.events.put_nowait({"type": "ADDED", "object": thing("a", "2")})
        script.events.put_nowait({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
        script.events.put_nowait(None)
        script.events.put_nowait({"type": "ADDED", "object": thing("b", "10")})
        await until("a", "b")
        assert script.watched_from == ["1", "9"]
        assert script.lists == 1

    play(tmp_path, body)


def test_a_version_that_is_too_old_is_listed_again(tmp_path: Path) -> None:
    async def body(script: ScriptedServer, store: Store, until: Until) -> None:
        script.events.put_nowait({"type": "ADDED", "object": thing("gone", "2")})
        await until("gone")
        script.items = [thing("new", "7")]
        script.events.put_nowait({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
        script.events.put_nowait(None)
        await until("new")
        assert script.lists == 2

    play(tmp_path, body)


def test_an_outage_keeps_what_is_known_and_is_outlived(tmp_path: Path) -> None:
    async def body(script: ScriptedServer, store: Store, until: Until) -> None:
        script.events.put_nowait({"type": "ADDED", "object": thing("a", "2")})
        await until("a")
        script.failures = 2
        script.items = [thing("b", "8")]
        script.events.put_nowait({"type": "ERROR", "object": {"code": 500, "message": "ill"}})
        script.events.put_nowait(None)
        assert set(store.objects) == {("ns", "a")}
        await until("b")
        assert script.lists == 4

    play(tmp_path, body)


def test_a_refusal_carries_the_servers_code_and_words(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path) as (script, client):
            script.failures = 2
            with pytest.raises(ApiError, match="503: not now") as caught:
                await client.request("GET", "/things")
            assert caught.value.code == 503
            assert await client.ready() is False
            assert await client.ready() is True

    asyncio.run(run())


def test_without_a_server_it_is_not_ready(tmp_path: Path) -> None:
    async def run() -> None:
        authority = Authority(tmp_path)
        client = ApiClient("https://127.0.0.1:1", str(authority.files.certificate), authority.client("a", "a"))
        assert await client.ready() is False
        await client.close()

    asyncio.run(run())
