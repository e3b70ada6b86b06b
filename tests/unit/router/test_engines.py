"""Finding engines and choosing among them, with a network that the test controls."""

from pathlib import Path

import httpx
import pytest

from diffusion_contract.agent_messages import Route
from diffusion_router.engine_table import TIMEOUTS_UNTIL_RED
from router_network import DIGEST, STABLE, Network, ready, to


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(tmp_path, monkeypatch)


def late() -> httpx.Response:
    raise httpx.ReadTimeout("late")


async def test_engines_are_found_by_name_and_used_when_they_say_so(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    network.engines = {"10.0.0.1": ready, "10.0.0.2": lambda: httpx.Response(503, json={"revision": "stable"})}
    assert not network.discovery.satisfied
    await network.discovery.one_round()
    assert network.discovery.satisfied
    assert network.ready == {"http://10.0.0.1:8000"}
    assert network.changes == 1
    await network.discovery.one_round()
    assert network.changes == 1, "nothing changed, nothing is told"


async def test_a_replaced_pod_is_found_at_the_next_round(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = ready
    await network.discovery.one_round()
    network.names["stable.test"], network.engines = ["10.0.0.9"], {"10.0.0.9": ready}
    await network.discovery.one_round()
    assert network.ready == {"http://10.0.0.9:8000"}
    await network.discovery.one_round()
    assert len(list(network.table)) == 1, "the old address is forgotten once it is neither named nor ready"


async def test_a_silent_name_server_takes_no_working_engine_away(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = ready
    await network.discovery.one_round()
    network.names.clear()
    await network.discovery.one_round()
    assert network.ready == {"http://10.0.0.1:8000"}


async def test_a_slow_name_server_is_like_a_silent_one(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_router.discovery.RESOLVE_SECONDS", 0.05)
    slow = Route(revision="slow", host="slow.test", port=8000, model_digest=DIGEST)
    network.book.told(to(STABLE, slow))
    network.names = {"stable.test": ["10.0.0.1"], "slow.test": ["10.0.0.2"]}
    network.engines = {"10.0.0.1": ready, "10.0.0.2": lambda: ready("slow")}
    await network.discovery.one_round()
    network.slow.add("slow.test")
    await network.discovery.one_round()
    assert len(network.ready) == 2


async def test_an_engine_that_was_taken_out_of_its_service_gets_no_more_requests(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1", "10.0.0.2"]
    network.engines = {"10.0.0.1": ready, "10.0.0.2": ready}
    await network.discovery.one_round()
    network.names["stable.test"] = ["10.0.0.1"]
    await network.discovery.one_round()
    assert len(network.ready) == 2, "once may be a hosts file that is just being written"
    await network.discovery.one_round()
    assert network.ready == {"http://10.0.0.1:8000"}


async def test_an_engine_that_drains_is_the_last_choice_while_it_answers(network: Network) -> None:
    def draining() -> httpx.Response:
        return httpx.Response(503, json={"ready": False, "phase": "Draining", "revision": "stable"})

    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = draining
    await network.discovery.one_round()
    assert not network.ready
    assert network.table.choose("stable", frozenset()) is None
    network.names["stable.test"] = ["10.0.0.2"]
    for _ in range(3):
        await network.discovery.one_round()
    last = network.table.choose("stable", frozenset(), draining=True)
    assert last is not None
    assert last.url == "http://10.0.0.1:8000", "its successor is named and does not answer yet"
    network.engines = {"10.0.0.2": ready}
    await network.discovery.one_round()
    await network.discovery.one_round()
    assert [engine.url for engine in network.table] == ["http://10.0.0.2:8000"]


async def test_an_address_that_another_service_has_now_is_not_used(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = lambda: ready("someone-elses")
    await network.discovery.one_round()
    assert not network.ready


async def test_a_busy_engine_is_red_only_after_several_silences(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = ready
    await network.discovery.one_round()
    network.engines["10.0.0.1"] = late
    for _ in range(TIMEOUTS_UNTIL_RED - 1):
        await network.discovery.one_round()
        assert network.ready
    await network.discovery.one_round()
    assert not network.ready


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b'{"revision": "stable", "outstanding_steps": null}',
     b'{"revision": "stable", "outstanding_steps": Infinity}', b'{"revision": "stable", "outstanding_steps": NaN}'],
)  # fmt: skip
async def test_an_answer_that_makes_no_sense_is_not_ready(network: Network, body: bytes) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = lambda: httpx.Response(200, content=body)
    await network.discovery.one_round()
    assert not network.ready


async def test_a_revision_without_a_route_is_forgotten(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = ready
    await network.discovery.one_round()
    network.book.told(to())
    await network.discovery.one_round()
    await network.discovery.one_round()
    assert not list(network.table)


async def test_a_rollout_has_no_moment_without_an_engine(network: Network) -> None:
    candidate = Route(revision="new", host="new.test", port=8000, model_digest=DIGEST)
    network.names = {"stable.test": ["10.0.0.1"], "new.test": ["10.0.0.2"]}
    network.engines["10.0.0.1"] = ready
    await network.discovery.one_round()

    def can_answer() -> bool:
        return any(network.table.choose(route.revision, frozenset()) for route in network.book.in_force)

    assert can_answer()
    network.book.told(to(candidate))
    assert can_answer()
    await network.discovery.one_round()
    assert can_answer(), "the new engine still loads"
    network.engines["10.0.0.2"] = lambda: ready("new")
    await network.discovery.one_round()
    assert can_answer()
    assert network.book.in_force == (candidate,)


async def test_work_that_other_routers_gave_counts_in_the_choice(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1", "10.0.0.2"]
    network.engines = {"10.0.0.1": lambda: ready(steps=500), "10.0.0.2": lambda: ready(steps=20)}
    await network.discovery.one_round()
    chosen = network.table.choose("stable", frozenset())
    assert chosen is not None
    assert chosen.url == "http://10.0.0.2:8000"
    with network.table.working(chosen, 600):
        other = network.table.choose("stable", frozenset())
        assert other is not None
        assert other.url == "http://10.0.0.1:8000"


async def test_our_own_work_is_not_counted_twice(network: Network) -> None:
    network.names["stable.test"] = ["10.0.0.1"]
    network.engines["10.0.0.1"] = lambda: ready(steps=50)
    await network.discovery.one_round()
    (engine,) = network.table
    with network.table.working(engine, 50):
        await network.discovery.one_round()
        assert (engine.ours, engine.others) == (50, 0)
