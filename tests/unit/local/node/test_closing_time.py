"""Waiting for something until a moment that may come nearer."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from diffusion_local.node.closing_time import ClosingTime
from skipped_time import run_skipping


def timed(test: Callable[[ClosingTime], Awaitable[None]]) -> float:
    """How many seconds of waiting a test asks for."""

    async def run() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await test(ClosingTime())
        return loop.time() - begun

    return run_skipping(run())


async def never() -> None:
    await asyncio.Event().wait()


def after(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_it_only_comes_nearer() -> None:
    async def test(closing: ClosingTime) -> None:
        closing.bring(after(100))
        assert closing.left == 100
        closing.bring(after(200))
        assert closing.left == 100
        closing.bring(after(-1))
        assert closing.left == 0

    timed(test)


def test_an_event_ends_the_wait() -> None:
    async def test(closing: ClosingTime) -> None:
        await closing.wait(never(), asyncio.sleep(0.1))

    assert timed(test) == pytest.approx(0.1)


@pytest.mark.parametrize(("left", "at_least", "expected"), [(0.2, 0.0, 0.2), (0.0, 0.2, 0.2), (0.3, 0.1, 0.3)])
def test_it_ends_the_wait_but_not_too_soon(left: float, at_least: float, expected: float) -> None:
    async def test(closing: ClosingTime) -> None:
        closing.bring(after(left))
        await closing.wait(never(), at_least=at_least)

    assert timed(test) == pytest.approx(expected)


def test_a_wait_hears_that_it_came_nearer() -> None:
    async def test(closing: ClosingTime) -> None:
        closing.bring(after(100))
        asyncio.get_running_loop().call_later(0.1, closing.bring, after(0.2))
        await closing.wait(never())

    assert timed(test) == pytest.approx(0.2)
