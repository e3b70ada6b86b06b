"""An engine that takes a request and is then heard of no more: frozen, or on a machine that was lost."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from diffusion_router.engine_table import ABSENCES_UNTIL_GONE, TIMEOUTS_UNTIL_RED
from router_engines import CALL, Engines, good

FROZEN, OTHER = "10.0.0.1", "10.0.0.2"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_router.forwarding.LOOK_SECONDS", 0.02)


class Scene:
    """A request in the hands of an engine that answers once it is `thawed`, and that is not called silent yet."""

    def __init__(self) -> None:
        self.engines = Engines()
        self.asked, self.thawed = asyncio.Event(), asyncio.Event()
        self.engines.add(FROZEN, self._frozen)

    async def _frozen(self, request: httpx.Request) -> httpx.Response:
        self.asked.set()
        await self.thawed.wait()
        return good(request)

    async def falls_silent(self) -> None:
        """The request has arrived, and then the search for engines gets no answer for as long as it takes."""
        await asyncio.wait_for(self.asked.wait(), 60)
        (engine,) = [engine for engine in self.engines.table if FROZEN in engine.url]
        for _ in range(TIMEOUTS_UNTIL_RED):
            engine.timed_out()


async def test_a_request_leaves_a_silent_engine_for_another_that_is_ready() -> None:
    scene = Scene()
    scene.engines.add(OTHER, good)
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await scene.falls_silent()
    answer = await asyncio.wait_for(sending, 60)
    assert (OTHER in answer.engine, scene.engines.retries) == (True, ["lost"])
    assert scene.engines.table.outstanding_work == 0


async def test_an_engine_that_no_name_leads_to_is_watched_while_a_request_is_in_its_hands() -> None:
    scene = Scene()
    scene.engines.add(OTHER, good)
    table, (route,) = scene.engines.table, scene.engines.routes
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await asyncio.wait_for(scene.asked.wait(), 60)
    for _ in range(ABSENCES_UNTIL_GONE):
        table.resolved(route, [OTHER])
        for engine in table:
            engine.answered(ready=True, outstanding_steps=0)
    assert [engine.url for engine in table if engine.ready] == [f"http://{OTHER}:80"], "it gets no other request"
    await scene.falls_silent()
    assert OTHER in (await asyncio.wait_for(sending, 60)).engine
    table.resolved(route, [OTHER])
    assert [engine.url for engine in table] == [f"http://{OTHER}:80"]


async def test_engines_without_a_route_are_forgotten_when_they_have_nothing_of_ours() -> None:
    scene = Scene()
    scene.engines.add(OTHER, good)
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await asyncio.wait_for(scene.asked.wait(), 60)
    scene.engines.table.keep_only(())
    assert [engine.url for engine in scene.engines.table] == [f"http://{FROZEN}:80"]
    scene.thawed.set()
    await asyncio.wait_for(sending, 60)
    scene.engines.table.keep_only(())
    assert not list(scene.engines.table)


class Halting(httpx.AsyncByteStream):
    """The beginning of an answer, which is all that ever comes."""

    def __init__(self, began: asyncio.Event) -> None:
        self._began = began

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{"
        self._began.set()
        await asyncio.Event().wait()


async def test_a_request_leaves_an_engine_that_falls_silent_in_the_middle_of_its_answer() -> None:
    scene = Scene()
    scene.engines.behaviour[FROZEN] = lambda _request: httpx.Response(200, stream=Halting(scene.asked))
    scene.engines.add(OTHER, good)
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await scene.falls_silent()
    assert OTHER in (await asyncio.wait_for(sending, 60)).engine


async def test_without_another_a_silent_engine_is_waited_for() -> None:
    """It may only be slow, and then its answer is better than an error."""
    scene = Scene()
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await scene.falls_silent()
    done, _ = await asyncio.wait({sending}, timeout=0.1)
    assert not done
    scene.thawed.set()
    assert (await asyncio.wait_for(sending, 60)).status == 200


async def test_a_request_leaves_a_silent_engine_when_another_has_come() -> None:
    scene = Scene()
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await scene.falls_silent()
    done, _ = await asyncio.wait({sending}, timeout=0.1)
    assert not done
    scene.engines.behaviour[OTHER] = good
    scene.engines.table.resolved(scene.engines.routes[0], [FROZEN, OTHER])
    (other,) = [engine for engine in scene.engines.table if OTHER in engine.url]
    other.answered(ready=True, outstanding_steps=0)
    assert OTHER in (await asyncio.wait_for(sending, 60)).engine


async def test_an_engine_that_was_silent_and_answers_again_keeps_its_requests() -> None:
    scene = Scene()
    scene.engines.add(OTHER, good)
    for engine in scene.engines.table:
        for _ in range(TIMEOUTS_UNTIL_RED):
            engine.timed_out()
        engine.answered(ready=True, outstanding_steps=0)
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await asyncio.wait_for(scene.asked.wait(), 60)
    scene.thawed.set()
    assert FROZEN in (await asyncio.wait_for(sending, 60)).engine
