"""Requests that end early, and engines that are told to end while they draw."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def while_drawing(tmp_path: Path, then: Callable[[Bench, "asyncio.Task[httpx.Response]"], Any]) -> Any:
    """Run `then` while a request waits for a row that is never finished."""

    async def scene() -> Any:
        bench = Bench(tmp_path)
        bench.loop.outcome = None
        task = asyncio.create_task(bench.ask(json={"n": 2}))
        await asyncio.wait_for(bench.loop.two_submitted.wait(), 60)
        return await then(bench, task)

    return asyncio.run(scene())


def test_a_request_that_is_dropped_frees_its_rows(tmp_path: Path) -> None:
    async def drop(bench: Bench, task: "asyncio.Task[httpx.Response]") -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert bench.loop.cancelled == [1, 2]
        assert bench.measures.abandoned._value.get() == 2

    while_drawing(tmp_path, drop)


def test_an_engine_that_is_told_to_end_is_red_and_takes_requests_for_a_while(bench: Bench) -> None:
    async def scene() -> None:
        draining = asyncio.create_task(bench.engine.drain(lame_duck_seconds=3600))
        await asyncio.sleep(0)
        said = await bench.ask("GET", "/readyz", key=None)
        assert (said.status_code, said.json()["phase"]) == (503, "Draining")
        assert (await bench.ask(json={})).status_code == 200, "a router may know no other engine yet"
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)

    asyncio.run(scene())


def test_draining_refuses_the_new_waits_for_the_old_and_ends_the_loop(tmp_path: Path) -> None:
    async def drain(bench: Bench, task: "asyncio.Task[httpx.Response]") -> None:
        draining = asyncio.create_task(bench.engine.drain(lame_duck_seconds=0, seconds=3600))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = await bench.ask(json={})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        ready = await bench.ask("GET", "/readyz", key=None)
        assert (ready.status_code, ready.json()["phase"]) == (503, "Draining")
        assert not bench.loop.stopped
        bench.loop.finish()
        assert (await asyncio.wait_for(task, 60)).status_code == 200
        await asyncio.wait_for(draining, 60)
        assert bench.loop.stopped

    while_drawing(tmp_path, drain)


def test_draining_gives_up_what_takes_too_long(tmp_path: Path) -> None:
    async def drain(bench: Bench, task: "asyncio.Task[httpx.Response]") -> None:
        await asyncio.wait_for(bench.engine.drain(lame_duck_seconds=0, seconds=0), 60)
        assert bench.loop.stopped
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    while_drawing(tmp_path, drain)
