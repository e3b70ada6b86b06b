import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Self

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import ApiRefusal, Unreachable, refusal
from diffusion_operator.kube.informer import PAGE, Informer
from diffusion_operator.kube.resources import POD
from diffusion_operator.kube.store import Store
from operator_harness import until
from scripted_transport import ScriptedTransport, failure, gone

LIST = "GET /api/v1/pods"


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)}}


def listed(version: int, *pods: dict[str, Any], more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(pods)}


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": item}


class Watched:
    """An informer of pods on a scripted API server."""

    def __init__(self, transport: ScriptedTransport, **options: Any) -> None:
        self.transport, self.store = transport, Store()
        self.failures: list[Exception] = []
        self.informer = Informer(
            ApiClient(transport), self.store, POD, failed=lambda _, error: self.failures.append(error), **options
        )

    def names(self) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.store.all(POD))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        task = asyncio.create_task(self.informer.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_list_is_read_in_pages_and_with_the_selector() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5, pod("a", 1), more="next"), listed(5, pod("b", 2)))
    async with Watched(transport, selector="x=y").running() as watched:
        await watched.informer.synced.wait()
        assert watched.names() == ["a", "b"]
    first, second = transport.sent("GET")
    assert first.query == {"labelSelector": "x=y", "limit": str(PAGE)}
    assert second.query == {"labelSelector": "x=y", "limit": str(PAGE), "continue": "next"}
    assert "resourceVersion" not in first.query, "a list from the server's cache may lack what we wrote"


async def test_a_list_whose_continue_token_expired_begins_again() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5, pod("a", 1), more="old"), failure(410, "Expired"), listed(9, pod("b", 2)))
    async with Watched(transport).running() as watched:
        await watched.informer.synced.wait()
        assert watched.names() == ["b"]


async def test_a_watch_goes_on_from_the_list_and_asks_for_bookmarks() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5))
    transport.watches.append([event("ADDED", pod("a", 6)), event("MODIFIED", pod("a", 7)), event("ADDED", pod("b", 8))])
    async with Watched(transport).running() as watched:
        await until(lambda: watched.names() == ["a", "b"], 5, "both pods")
        assert watched.store.position(POD, "").resource_version == 8
    query = transport.watch_queries[0]
    assert (query["resourceVersion"], query["allowWatchBookmarks"], query["watch"]) == ("5", "true", "1")


async def test_a_deletion_is_told() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5, pod("a", 1)))
    transport.watches.append([event("DELETED", pod("a", 6))])
    async with Watched(transport).running() as watched:
        await watched.informer.synced.wait()
        await until(lambda: not watched.names(), 5, "the deletion")


async def test_a_bookmark_moves_the_position_and_changes_nothing_else() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5, pod("a", 1)))
    transport.watches.append([event("BOOKMARK", {"metadata": {"resourceVersion": "90"}})])
    async with Watched(transport).running() as watched:
        await until(lambda: watched.store.position(POD, "").resource_version == 90, 5, "the bookmark")
        assert watched.names() == ["a"]


@pytest.mark.parametrize(
    "end",
    [
        event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"}),
        event("ERROR", {"code": 500, "reason": "InternalError", "message": "no"}),
        gone(),
    ],
)
async def test_after_an_error_it_lists_again_and_drops_what_vanished_meanwhile(end: Any) -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5, pod("ghost", 1), pod("a", 2)), listed(20, pod("a", 2)))
    transport.watches.append([end])
    async with Watched(transport).running() as watched:
        await until(lambda: watched.names() == ["a"], 5, "the ghost's end")
        await until(lambda: len(transport.watch_queries) == 2, 5, "the second watch")
        assert transport.watch_queries[1]["resourceVersion"] == "20"
        assert len(watched.failures) == 1


async def test_a_silent_connection_is_replaced_from_the_last_version_without_a_list() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5))
    transport.watches.extend([[event("ADDED", pod("a", 6))], [event("ADDED", pod("b", 7))]])
    async with Watched(transport, silence=0.05).running() as watched:
        await until(lambda: watched.names() == ["a", "b"], 5, "the event of the second connection")
        assert transport.watch_queries[1]["resourceVersion"] == "6"
        assert len(transport.sent("GET")) == 1


async def test_while_nothing_can_be_reached_it_tries_on_and_was_last_heard_before() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, listed(5, pod("a", 1)))
    transport.watches.extend([[Unreachable("down")], [Unreachable("down")], [event("ADDED", pod("b", 6))]])
    async with Watched(transport).running() as watched:
        await watched.informer.synced.wait()
        heard = watched.informer.heard_at
        await until(lambda: len(watched.failures) == 1, 5, "the first failure")
        assert watched.informer.heard_at == heard
        await until(lambda: watched.names() == ["a", "b"], 5, "the event after the outage")
        assert watched.informer.heard_at > heard


class Pauses:
    """The informer's pauses, noted and not slept; the test's own looks are shorter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds: list[float] = []
        self._sleep = asyncio.sleep
        monkeypatch.setattr(asyncio, "sleep", self.sleep)
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)

    async def sleep(self, seconds: float) -> None:
        if seconds > 0.1:
            self.seconds.append(seconds)
        await self._sleep(0)


@pytest.mark.parametrize(
    "end", [[refusal(403, "Forbidden", "may not watch")], [gone()], []], ids=["403", "410", "closed"]
)
async def test_a_watch_that_ends_at_once_is_not_begun_again_without_pause_though_lists_go_well(
    end: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closing(ScriptedTransport):
        async def lines(self, path: str, query: Mapping[str, str], silence: float) -> AsyncGenerator[bytes, None]:
            self.watch_queries.append(dict(query))
            for error in end:
                raise error
            return
            yield b""

    transport, pauses = Closing(), Pauses(monkeypatch)
    transport.say(LIST, listed(5, pod("a", 1)))
    async with Watched(transport).running():
        await until(lambda: len(pauses.seconds) > 7, 5, "eight failures")
    assert pauses.seconds[:8] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


async def test_it_is_not_synced_before_a_list_has_come_in() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, failure(403, "Forbidden"), listed(5, pod("a", 1)))
    watched = Watched(transport)
    assert not watched.informer.synced.is_set()
    async with watched.running():
        await asyncio.wait_for(watched.informer.synced.wait(), 60)
    assert str(watched.failures[0]).startswith("403 Forbidden")


async def test_a_namespace_that_is_forbidden_is_heard_of_but_not_known() -> None:
    """It was deleted, and the RoleBinding with it: no reason to be restarted, and none to guess at what is in it."""
    transport = ScriptedTransport()
    transport.say(
        "GET /api/v1/namespaces/ns/pods", listed(5, pod("a", 1)), failure(403, "Forbidden"), listed(6, pod("b", 6))
    )
    watched = Watched(transport, namespace="ns")
    await watched.informer.list()
    heard = watched.informer.heard_at
    with pytest.raises(ApiRefusal):
        await watched.informer.list()
    assert watched.informer.heard_at > heard
    assert not watched.informer.synced.is_set()
    assert watched.informer.refused_for() > 0
    await watched.informer.list()
    assert watched.informer.synced.is_set()
    assert watched.informer.refused_for() == 0
    assert watched.names() == ["b"]


async def test_all_namespaces_forbidden_is_silence() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, failure(403, "Forbidden"))
    watched = Watched(transport)
    heard = watched.informer.heard_at
    with pytest.raises(ApiRefusal):
        await watched.informer.list()
    assert (watched.informer.heard_at, watched.informer.refused_for()) == (heard, 0)
