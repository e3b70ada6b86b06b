import asyncio
from typing import Any

from diffusion_operator.loop.health import LONGEST_SILENCE, Health, Watched, health_app
from diffusion_operator.loop.hearing import LONGEST_DELAY, SOUNDING_SECONDS
from diffusion_operator.loop.listening import listen_on
from operator_process import fetch


def health(**more: Any) -> Health:
    return Health(clock=lambda: 1000.0, **more)


def test_a_kind_that_was_heard_of_lately_is_no_illness() -> None:
    assert health(watched=[Watched("pods", lambda: 900.0)]).why_unhealthy() is None


def test_a_kind_that_was_silent_too_long_is_named() -> None:
    sick = health(watched=[Watched("pods", lambda: 700.0), Watched("jobs", lambda: 999.0)])
    assert sick.why_unhealthy() == "nothing was heard of pods for 300 s"


def test_kopf_is_found_deaf_no_later_than_a_watch_of_ours() -> None:
    assert SOUNDING_SECONDS + LONGEST_DELAY < LONGEST_SILENCE


def test_a_part_that_died_is_the_reason() -> None:
    assert health(failure="LeadershipLost: gone").why_unhealthy() == "LeadershipLost: gone"


def test_a_standby_is_ready_and_a_leader_is_when_it_has_synced() -> None:
    assert health().why_unready() is None
    assert health(is_leader=True).why_unready() == "the first lists have not come in yet"
    assert health(is_leader=True, is_synced=True).why_unready() is None


async def test_the_endpoints_say_so_with_code_and_sentence() -> None:
    state = health(is_leader=True, is_synced=True)
    runner, port = await listen_on(health_app(state), "127.0.0.1", 0)
    try:
        for path, well in (("healthz", "ok\n"), ("readyz", "leader\n")):
            url = f"http://127.0.0.1:{port}/{path}"
            assert await asyncio.to_thread(fetch, url) == (200, well)
        state.failure = "a part ended"
        assert await asyncio.to_thread(fetch, f"http://127.0.0.1:{port}/healthz") == (503, "a part ended\n")
    finally:
        await runner.cleanup()
