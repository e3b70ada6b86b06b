"""The node agent's way to the API server."""

import asyncio

import pytest

from diffusion_local.node import api_client
from diffusion_local.node.api_client import ApiClient, ApiError, ApiUnavailable, Change, decoded, persistently
from tiny_api import TinyApi, eventually, with_tiny_api

PODS = "/api/v1/pods"


def pod(name: str, **fields: object) -> dict[str, object]:
    return {"metadata": {"name": name}, **fields}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, ApiError),
        (403, ApiError),
        (409, ApiError),
        (429, ApiUnavailable),
        (500, ApiUnavailable),
        (503, ApiUnavailable),
    ],
)
def test_refusals_and_outages_are_told_apart(status: int, kind: type[Exception]) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("GET", "/x", (status, {"message": "said so"}))
        with pytest.raises(kind, match="said so"):
            await client.request("GET", "/x")

    with_tiny_api(test)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    async def test(_: TinyApi, client: ApiClient) -> None:
        async with ApiClient("http://127.0.0.1:9", client.context) as nobody:
            with pytest.raises(ApiUnavailable, match="GET /x"):
                await nobody.request("GET", "/x")

    with_tiny_api(test)


@pytest.mark.parametrize(("status", "kind"), [(400, ApiError), (502, ApiUnavailable)])
def test_an_answer_that_is_no_json_is_shown(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="<html>"):
        decoded(status, b"<html>")


def test_persistence_outlasts_an_outage_and_a_slow_authorizer() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("GET", "/x", (503, {}), (403, {}), (500, {}), (200, {"fine": True}))
        assert await persistently(lambda: client.request("GET", "/x"), "get x") == {"fine": True}
        assert len(server.requests) == 4

    with_tiny_api(test)


def test_persistence_passes_refusals_on() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("GET", "/x", (404, {"message": "no x"}))
        with pytest.raises(ApiError, match="no x"):
            await persistently(lambda: client.request("GET", "/x"), "get x")
        assert len(server.requests) == 1

    with_tiny_api(test)


def test_a_list_is_followed_through_every_kind_of_change() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.put("ADDED", pod("a"))
        heard: list[Change] = []

        async def follow() -> None:
            async for change in client.follow(PODS, "spec.nodeName=n"):
                heard.append(change)  # noqa: PERF401 (looked at while it grows)

        task = asyncio.create_task(follow())
        await eventually(lambda: server.watches, "the watch is open")
        server.put("ADDED", pod("b", big="x" * 300_000))
        server.tell({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}})
        server.put("DELETED", pod("a"))
        await eventually(lambda: len(heard) == 3, "three changes")
        assert [change.kind for change in heard] == ["Listed", "Put", "Gone"]
        assert [item["metadata"]["name"] for change in heard for item in change.items] == ["a", "b", "a"]
        task.cancel()

    with_tiny_api(test)


def test_a_watch_that_ends_goes_on_where_it_was_and_one_that_fails_lists_again() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        kinds: list[str] = []

        async def follow() -> None:
            async for change in client.follow(PODS, ""):
                kinds.append(change.kind)  # noqa: PERF401 (looked at while it grows)

        task = asyncio.create_task(follow())
        await eventually(lambda: server.watches, "the watch is open")
        server.put("ADDED", pod("a"))
        await eventually(lambda: kinds == ["Listed", "Put"], "the first event")
        server.tell(None)
        await eventually(lambda: len(server.requests) == 3 and server.watches, "the watch is open again")
        assert kinds == ["Listed", "Put"]
        server.tell({"type": "ERROR", "object": {"code": 410, "message": "too old"}})
        await eventually(lambda: kinds == ["Listed", "Put", "Listed"], "a new list")
        task.cancel()

    with_tiny_api(test)


def test_a_server_that_ends_every_watch_at_once_is_not_asked_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[int] = []

    def delay(attempts: int) -> float:
        pauses.append(attempts)
        return 0.0

    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("GET", PODS, (200, {"metadata": {"resourceVersion": "1"}, "items": []}))
        follower = client.follow(PODS)
        for _ in range(3):
            assert (await anext(follower)).kind == "Listed"
        assert pauses == [0, 0]

    monkeypatch.setattr(api_client, "delay_before_retry", delay)
    with_tiny_api(test)
