"""Least work among engines, and turns among revisions."""

from collections import Counter
from contextlib import ExitStack

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_contract.agent_messages import Route
from diffusion_router.engine_table import EngineState, EngineTable, engine_url
from diffusion_router.turns import WeightedTurns

URLS = st.integers(0, 9).map(lambda number: f"http://10.0.0.{number}:8000")
ENGINES = st.lists(
    st.builds(
        EngineState,
        url=URLS,
        revision=st.sampled_from(["r", "another"]),
        ready=st.booleans(),
        ours=st.integers(0, 5),
        others=st.integers(0, 5),
        last_used=st.integers(0, 5),
    ),
    unique_by=lambda engine: engine.url,
)
WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 100), min_size=1)


def table_of(engines: list[EngineState]) -> EngineTable:
    return EngineTable({(engine.revision, engine.url): engine for engine in engines})


@given(ENGINES, st.frozensets(URLS))
@settings(deadline=None)
def test_the_choice_is_ready_untried_and_least(engines: list[EngineState], tried: frozenset[str]) -> None:
    chosen = table_of(engines).choose("r", tried)
    candidates = [engine for engine in engines if engine.revision == "r" and engine.ready and engine.url not in tried]
    if chosen is None:
        assert not candidates
    else:
        assert chosen in candidates
        assert all(chosen.work <= other.work for other in candidates)
        equal = [other for other in candidates if other.work == chosen.work]
        assert chosen.last_used == min(other.last_used for other in equal)


@given(ENGINES)
@settings(deadline=None)
def test_the_choice_does_not_depend_on_the_order_of_engines(engines: list[EngineState]) -> None:
    assert table_of(engines).choose("r", frozenset()) is table_of(engines[::-1]).choose("r", frozenset())


@given(WEIGHTS)
@settings(deadline=None)
def test_each_revision_gets_exactly_its_weight(weights: dict[str, int]) -> None:
    turns = WeightedTurns()
    total = sum(weights.values())
    won = Counter(order[0] for order in (turns.order(weights) for _ in range(total)) if order)
    assert won == Counter({revision: weight for revision, weight in weights.items() if weight})


@given(WEIGHTS)
@settings(deadline=None)
def test_all_revisions_with_weight_are_fallbacks_and_those_without_never_are(weights: dict[str, int]) -> None:
    order = WeightedTurns().order(weights)
    assert sorted(order) == sorted(revision for revision, weight in weights.items() if weight)


@given(st.lists(WEIGHTS, min_size=1, max_size=10))
@settings(deadline=None)
def test_turns_survive_every_change_of_weights(changes: list[dict[str, int]]) -> None:
    turns = WeightedTurns()
    for weights in changes:
        order = turns.order(weights)
        assert set(order) == {revision for revision, weight in weights.items() if weight}


@given(st.integers(0, 1000), st.integers(0, 1000))
@settings(deadline=None)
def test_the_work_of_others_is_never_negative(reported: int, ours: int) -> None:
    engine = EngineState("http://10.0.0.1:8000", "r", ours=ours)
    engine.answered(ready=True, outstanding_steps=reported)
    assert (engine.others, engine.work) == (max(0, reported - ours), max(reported, ours))


@given(st.integers(1, 5), st.lists(st.integers(1, 50), max_size=30))
@settings(deadline=None)
def test_requests_spread_so_that_no_engine_has_more_than_one_request_too_many(number: int, costs: list[int]) -> None:
    """Greedy least-work: the busiest engine is ahead of the idlest by at most one request."""
    table = EngineTable()
    route = Route(revision="r", host="h", port=8000, model_digest="sha256:" + "0" * 64)
    table.resolved(route, [f"10.0.0.{index}" for index in range(number)])
    for engine in table:
        engine.answered(ready=True, outstanding_steps=0)
    with ExitStack() as requests:
        for cost in costs:
            chosen = table.choose("r", frozenset())
            assert chosen is not None
            requests.enter_context(table.working(chosen, cost))
        loads = [engine.ours for engine in table]
        assert max(loads) - min(loads) <= max(costs, default=0)
        assert table.outstanding_work == sum(costs)
    assert table.outstanding_work == 0


@given(st.ip_addresses())
@settings(deadline=None)
def test_every_address_makes_a_url_that_parses(address: object) -> None:
    assert httpx.URL(engine_url(str(address), 8000)).port == 8000
