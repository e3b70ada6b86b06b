"""The search for engines goes on whatever it meets, tells what changed, and says when a router may be sent requests."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from diffusion_contract.agent_messages import Route
from diffusion_router.discovery import PATIENCE_SECONDS, STUCK_SECONDS
from router_network import DIGEST, STABLE, Network, ready, to


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(tmp_path, monkeypatch)


async def test_news_begin_the_next_round_at_once(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_router.discovery.ROUND_SECONDS", 1000)
    network.names = {"stable.test": ["10.0.0.1"], "new.test": ["10.0.0.2"]}
    network.engines = {"10.0.0.1": ready, "10.0.0.2": lambda: ready("new")}
    running = asyncio.create_task(network.discovery.run())
    async with asyncio.timeout(60):
        await network.changed.wait()
        network.changed.clear()
        network.book.told(to(Route(revision="new", host="new.test", port=8000, model_digest=DIGEST)))
        await network.changed.wait()
    assert "http://10.0.0.2:8000" in network.ready
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_new_router_waits_for_its_first_engine_but_not_for_ever(network: Network) -> None:
    await network.discovery.one_round()
    assert not network.discovery.satisfied, "an older router may know one: it is not replaced by one that knows none"
    network.now = PATIENCE_SECONDS + 1
    await network.discovery.one_round()
    assert network.discovery.satisfied, "it says that there is no engine"


async def test_a_router_that_has_found_an_engine_goes_on_answering_without_one(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = ready
    await network.discovery.one_round()
    network.engines.clear()
    await network.discovery.one_round()
    assert not network.ready
    assert network.discovery.satisfied


async def test_without_a_route_there_is_nothing_to_wait_for(network: Network) -> None:
    network.book.told(to())
    await network.discovery.one_round()
    assert network.discovery.satisfied


async def test_the_moment_in_which_routes_come_into_force_is_told(network: Network) -> None:
    """Engines of both are known and stay as they are: only where requests go changes."""
    new = Route(revision="new", host="new.test", port=8000, model_digest=DIGEST)
    network.names = {"stable.test": ["10.0.0.1"], "new.test": ["10.0.0.2"]}
    network.engines = {"10.0.0.1": ready, "10.0.0.2": lambda: ready("new")}
    network.book.told(to(STABLE, new.model_copy(update={"weight": 0})))
    await network.discovery.one_round()
    told = network.changes
    network.book.told(to(STABLE.model_copy(update={"weight": 0}), new))
    await network.discovery.one_round()
    assert network.book.routed == ("new",)
    assert network.changes == told + 1


async def test_an_engine_that_answers_nonsense_disturbs_no_other(network: Network) -> None:
    def fault() -> httpx.Response:
        raise ZeroDivisionError("nobody foresaw this")

    network.names["stable.test"] = ["10.0.0.1", "10.0.0.2"]
    network.engines = {"10.0.0.1": fault, "10.0.0.2": ready}
    await network.discovery.one_round()
    assert network.ready == {"http://10.0.0.2:8000"}


class Drip(httpx.AsyncByteStream):
    """An answer that goes on for ever, a little at a time."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)


async def test_an_engine_whose_answer_never_ends_does_not_keep_the_round(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffusion_router.discovery.CHECK_SECONDS", 0.5)
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = lambda: httpx.Response(200, stream=Drip())
    await asyncio.wait_for(network.discovery.one_round(), 60)
    assert not network.ready


async def test_a_round_that_fails_is_not_the_last_one(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_router.discovery.ROUND_SECONDS", 0.01)
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = ready
    told, failures = network.book.settle, iter([ZeroDivisionError("nobody foresaw this")])

    def settle(counts: dict[str, int]) -> None:
        if failure := next(failures, None):
            raise failure
        told(counts)

    monkeypatch.setattr(network.book, "settle", settle)
    running = asyncio.create_task(network.discovery.run())
    async with asyncio.timeout(60):
        await network.changed.wait()
    assert network.ready
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_search_that_has_stopped_is_not_alive(network: Network) -> None:
    network.now = STUCK_SECONDS + 1
    assert not network.discovery.healthy
    await network.discovery.one_round()
    assert network.discovery.healthy
