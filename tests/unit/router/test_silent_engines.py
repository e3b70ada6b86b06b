"""An engine that takes a request and is then heard of no more: frozen, or on a machine that was lost."""

import asyncio

import httpx

from diffusion_router.engine_table import TIMEOUTS_UNTIL_RED
from router_engines import CALL, Engines, good

FROZEN, OTHER = "10.0.0.1", "10.0.0.2"


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


async def test_without_another_a_silent_engine_is_waited_for() -> None:
    """It may only be slow, and then its answer is better than an error."""
    scene = Scene()
    sending = asyncio.create_task(scene.engines.forwarder.send(CALL))
    await scene.falls_silent()
    done, _ = await asyncio.wait({sending}, timeout=0.1)
    assert not done
    scene.thawed.set()
    assert (await asyncio.wait_for(sending, 60)).status == 200


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
