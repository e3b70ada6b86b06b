"""Kopf as it is, and our lists, feed one store: neither may undo what the other knows."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.informer import Informer
from diffusion_operator.kube.resources import TRAINING
from diffusion_operator.kube.store import Change, Store
from diffusion_operator.kube.transport import HttpTransport
from diffusion_operator.loop.bindings import listen, quiet_settings
from diffusion_operator.loop.hearing import LONGEST_DELAY, Hearing
from ear_api import EarApi, serving
from operator_harness import until


def give_signals_back() -> None:
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(name)


@dataclass
class Scene:
    """A server, a store that kopf feeds, a way to list into it, and the time that it is."""

    server: EarApi
    store: Store
    hearing: Hearing
    time: SimpleNamespace
    resync: Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    server = EarApi()
    async with serving(server.serve) as connection:
        store, time = Store(), SimpleNamespace(now=0.0)
        hearing = Hearing(lambda: time.now)
        store.listeners.append(hearing.changed)
        client = ApiClient(HttpTransport(connection))
        informer = Informer(client, store, TRAINING, failed=lambda *_: None)
        settings = quiet_settings()
        settings.watching.reconnect_backoff = 0.05
        kopf = asyncio.create_task(listen(connection, store, hearing, (), settings, give_signals_back))

        async def resync() -> None:
            hearing.found(await informer.list())

        try:
            await until(lambda: server.watches, 10, "kopf's first watch")
            yield Scene(server, store, hearing, time, resync)
        finally:
            kopf.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await kopf
            await client.transport.close()


def seen(scene: Scene) -> dict[str, tuple[str, Any]]:
    return {item["metadata"]["name"]: (item["metadata"]["uid"], item["spec"]) for item in scene.store.all(TRAINING)}


def shows(scene: Scene, expected: dict[str, tuple[str, Any]]) -> bool:
    return seen(scene) == expected


async def test_a_list_that_took_its_time_undoes_nothing_that_was_heard_meanwhile(scene: Scene) -> None:
    for name in ("changed", "deleted", "replaced"):
        scene.server.put(name, steps=1)
    await until(lambda: len(seen(scene)) == 3, 5, "the first three")
    scene.server.our_lists_wait.clear()
    listing = asyncio.create_task(scene.resync())
    await asyncio.sleep(0.05)
    scene.server.put("changed", steps=2)
    scene.server.put("new", steps=1)
    scene.server.delete("deleted")
    scene.server.delete("replaced")
    scene.server.put("replaced", uid="second", steps=3)
    expected = {
        "changed": ("changed", {"steps": 2}),
        "new": ("new", {"steps": 1}),
        "replaced": ("second", {"steps": 3}),
    }
    await until(lambda: seen(scene) == expected, 5, "what kopf heard")
    told: list[Change] = []
    scene.store.listeners.append(told.append)
    scene.server.our_lists_wait.set()
    await listing
    assert seen(scene) == expected
    assert told == [], "the list knows nothing newer"
    assert scene.hearing.why_deaf() is None


async def test_a_namesake_stays_however_late_the_end_of_the_one_before_it_is_told(scene: Scene) -> None:
    scene.server.put("digits", uid="u0", steps=0)
    await until(lambda: seen(scene), 5, "the first one")
    for number in range(1, 20):
        scene.server.put("digits", uid=f"u{number - 1}", steps=-1)
        scene.server.delete("digits")
        scene.server.put("digits", uid=f"u{number}", steps=number)
        expected = {"digits": (f"u{number}", {"steps": number})}
        await until(partial(shows, scene, expected), 5, "a namesake")
        await scene.resync()
        assert seen(scene) == expected
    scene.server.delete("digits")
    await until(lambda: not seen(scene), 5, "the end of the last one")


async def test_what_went_while_kopf_could_not_go_on_is_dropped_by_the_next_list(scene: Scene) -> None:
    scene.server.put("stays", steps=1)
    scene.server.put("goes", steps=1)
    await until(lambda: len(seen(scene)) == 2, 5, "both")
    scene.server.kopf_is_deaf = True
    scene.server.delete("goes")
    scene.server.put("stays", steps=2)
    scene.server.kopf_is_deaf = False
    scene.server.forgotten = scene.server.version + 1
    scene.server.events.clear()
    watches = scene.server.watches
    scene.server.cut(forget=True)
    await until(lambda: scene.server.watches > watches, 10, "a new watch after 410")
    await until(lambda: seen(scene).get("stays") == ("stays", {"steps": 2}), 5, "kopf's new list")
    assert "goes" in seen(scene), "kopf does not tell what went"
    await scene.resync()
    assert seen(scene) == {"stays": ("stays", {"steps": 2})}
    scene.time.now += LONGEST_DELAY + 1
    assert scene.hearing.why_deaf() is None


async def test_a_watch_that_tells_nothing_is_found_out_by_the_next_list(scene: Scene) -> None:
    scene.server.put("digits", steps=1)
    await until(lambda: seen(scene), 5, "the first one")
    scene.server.kopf_is_deaf = True
    scene.server.put("digits", steps=2)
    scene.server.put("other", steps=1)
    await scene.resync()
    assert seen(scene)["digits"] == ("digits", {"steps": 2}), "the list makes up for it"
    assert scene.hearing.why_deaf() is None, "it may be under way"
    assert scene.hearing.is_owed
    scene.time.now += LONGEST_DELAY + 1
    assert scene.hearing.why_deaf() == "the watch of diffusiontrainings has not told 2 changes that a list found"
    scene.server.kopf_is_deaf = False
    scene.server.cut()
    await until(lambda: not scene.hearing.is_owed, 10, "kopf's late news")
    assert scene.hearing.why_deaf() is None
