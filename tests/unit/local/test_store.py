"""What the supervisor knows of the objects of one kind; how it hears of them is in node/test_api_client.py."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from diffusion_local.node.api_client import ApiClient
from diffusion_local.store import Store
from tiny_api import TinyApi, eventually, with_tiny_api


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name}, **more}


def play(body: Callable[[TinyApi, Store, list[set[str]]], Awaitable[None]]) -> None:
    """Run `body` beside a following store; the third argument has the names after each change."""

    async def test(server: TinyApi, client: ApiClient) -> None:
        heard: list[set[str]] = []
        store = Store(client, "/things", lambda: heard.append({name for _, name in store.objects}))
        following = asyncio.create_task(store.run())
        try:
            await eventually(lambda: server.watches, "the watch is open")
            await body(server, store, heard)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    with_tiny_api(test)


def test_a_store_begins_with_the_list_and_follows_what_changes() -> None:
    async def body(server: TinyApi, store: Store, heard: list[set[str]]) -> None:
        server.put("ADDED", thing("a"))
        server.put("ADDED", thing("b"))
        server.put("MODIFIED", thing("a", size=5))
        server.put("DELETED", thing("b"))
        await eventually(lambda: len(heard) == 5, "four changes after the list")
        assert heard == [set(), {"a"}, {"a", "b"}, {"a", "b"}, {"a"}]
        assert store.objects["ns", "a"]["size"] == 5

    play(body)


def test_an_outage_keeps_what_is_known_until_the_next_list() -> None:
    async def body(server: TinyApi, store: Store, heard: list[set[str]]) -> None:
        server.put("ADDED", thing("a"))
        await eventually(lambda: heard == [set(), {"a"}], "the first object")
        server.answer("GET", "/things", (503, {"message": "not now"}))
        server.tell({"type": "ERROR", "object": {"code": 500, "message": "ill"}})
        await eventually(lambda: len(server.requests) >= 4, "two attempts in vain")
        assert set(store.objects) == {("ns", "a")}
        server.items = [thing("b")]
        server.answers.clear()
        await eventually(lambda: heard == [set(), {"a"}, {"b"}], "the new list")

    play(body)
