"""Probes and hooks: what is asked, how answers are judged, and who hears of them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from diffusion_local.node import container_life
from diffusion_local.node.container_life import live
from diffusion_local.node.probing import Answer, Target, ask, watch_probe
from skipped_time import run_skipping
from tiny_api import eventually

CONTAINER = {"name": "main", "ports": [{"name": "web", "containerPort": 1}]}


async def with_server(test: Callable[[int], Awaitable[None]]) -> None:
    """Run a test with a web server whose paths say what they answer."""

    async def serve(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/loop":
                raise web.HTTPFound("/loop")
            case "/there":
                raise web.HTTPFound("/500")
            case "/elsewhere":
                raise web.HTTPFound("http://elsewhere.invalid/")
            case "/slow":
                await asyncio.sleep(30)
        if request.path == "/said":
            return web.Response(status=200 if request.headers.get("X-Word") == "yes" else 403)
        return web.Response(status=int(request.path[1:]))

    application = web.Application()
    application.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await test(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def target() -> Target:
    return Target(CONTAINER, "127.0.0.1", 0, {})


@pytest.mark.parametrize(
    ("path", "good", "message"),
    [
        ("/200", True, ""),
        ("/399", True, ""),
        ("/404", False, "HTTP probe failed with statuscode: 404"),
        ("/there", False, "HTTP probe failed with statuscode: 500"),
        ("/elsewhere", True, ""),
        ("/loop", False, "stopped after 10 redirects"),
        ("/slow", False, "context deadline exceeded"),
    ],
)
def test_http(path: str, good: bool, message: str) -> None:
    async def test(port: int) -> None:
        answer = await ask({"httpGet": {"path": path, "port": port}}, target(), 0.5)
        assert answer.good is good
        assert message in answer.message

    asyncio.run(with_server(test))


def test_http_with_headers_and_another_host() -> None:
    async def test(port: int) -> None:
        headers = [{"name": "X-Word", "value": "yes"}]
        action = {"path": "said", "port": str(port), "host": "localhost", "httpHeaders": headers}
        assert (await ask({"httpGet": action}, target(), None)).good  # hooks have no limit

    asyncio.run(with_server(test))


def test_tcp() -> None:
    async def test(port: int) -> None:
        assert (await ask({"tcpSocket": {"port": port}}, target(), 1.0)).good
        for kind in ("tcpSocket", "httpGet"):
            answer = await ask({kind: {"port": "web"}}, target(), 1.0)
            assert not answer.good
            assert answer.message.endswith("dial tcp 127.0.0.1:1: connect: connection refused")

    asyncio.run(with_server(test))


def test_what_cannot_be_asked_is_a_bad_answer() -> None:
    async def test() -> None:
        assert "no port named 'no'" in (await ask({"tcpSocket": {"port": "no"}}, target(), 1.0)).message
        assert not (await ask({"httpGet": {"port": 80, "host": "not a host"}}, target(), 1.0)).good
        assert "not support" in (await ask({"none": {}}, target(), 1.0)).message
        assert (await ask({"sleep": {"seconds": 0.01}}, target(), None)).good

    asyncio.run(test())


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self, asked: asyncio.Event) -> None:
        self.asked = asked
        self.said: list[str] = []

    def set_started(self) -> None:
        self.said.append("started")

    def set_ready(self, ready: bool) -> None:
        self.said.append("ready" if ready else "unready")

    def unhealthy(self, kind: str, message: str) -> None:
        self.said.append(f"{kind} {message}")

    def hook_failed(self, message: str) -> None:
        self.said.append(f"hook {message}")

    def kill(self, message: str, grace: float | None) -> None:
        self.said.append(f"kill {grace}")
        self.asked.set()


def looked_after(
    monkeypatch: pytest.MonkeyPatch,
    container: dict[str, Any],
    answers: dict[str, list[bool]],
    test: Callable[[Heard], Awaitable[None]],
) -> None:
    """Run a test on a container whose probes and hooks give `answers`, by the first word of their command."""

    async def reply(handler: dict[str, Any], _: Target, __: float | None) -> Answer:
        known = answers[handler["exec"]["command"][0]]
        good = known.pop(0) if len(known) > 1 else known[0]
        return Answer(good, "" if good else "no")

    async def run() -> None:
        asked = asyncio.Event()
        heard = Heard(asked)
        living = asyncio.create_task(live(container, target(), heard, asked))
        try:
            await test(heard)
        finally:
            living.cancel()

    monkeypatch.setattr(container_life, "ask", reply)
    monkeypatch.setattr("diffusion_local.node.probing.ask", reply)
    asyncio.run(run())


def probe(name: str, **fields: Any) -> dict[str, Any]:
    return {"exec": {"command": [name]}, "periodSeconds": 0.02, "failureThreshold": 2, **fields}


def test_failures_below_the_threshold_are_told_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(heard: Heard) -> None:
        await eventually(lambda: heard.said.count("Readiness no") >= 2, "two bad answers")
        assert [said for said in heard.said if not said.startswith("Readiness")] == ["started", "ready"]

    looked_after(
        monkeypatch,
        {"name": "main", "readinessProbe": probe("r")},
        {"r": [True, False, True, False, True]},
        test,
    )


def test_readiness_turns_after_enough_equal_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(heard: Heard) -> None:
        await eventually(lambda: "ready" in heard.said, "ready")
        assert heard.said == ["started", "Readiness no", "Readiness no", "unready", "ready"]

    container = {"name": "main", "readinessProbe": probe("r", successThreshold=2)}
    looked_after(monkeypatch, container, {"r": [False, False, True, True]}, test)


def test_the_first_question_waits_for_its_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(heard: Heard) -> None:
        begun = asyncio.get_running_loop().time()
        await eventually(lambda: "ready" in heard.said, "ready")
        assert asyncio.get_running_loop().time() - begun >= 0.3

    looked_after(
        monkeypatch, {"name": "main", "readinessProbe": probe("r", initialDelaySeconds=0.3)}, {"r": [True]}, test
    )


def test_a_startup_probe_holds_everything_back_and_may_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(heard: Heard) -> None:
        await eventually(lambda: "kill 7" in heard.said, "the end")
        assert heard.said == ["Startup no", "Startup no", "kill 7"]

    container = {
        "name": "main",
        "startupProbe": probe("s", terminationGracePeriodSeconds=7),
        "livenessProbe": probe("l"),
    }
    looked_after(monkeypatch, container, {"s": [False], "l": [False]}, test)


def test_liveness_kills_once_and_readiness_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(heard: Heard) -> None:
        await eventually(lambda: "kill None" in heard.said, "the end")
        killed = len(heard.said)
        await eventually(lambda: heard.said[killed:].count("unready") >= 5, "readiness goes on")
        assert not [said for said in heard.said[killed:] if said.startswith(("Liveness", "kill"))]

    container = {"name": "main", "livenessProbe": probe("l"), "readinessProbe": probe("r")}
    looked_after(monkeypatch, container, {"l": [True, True, False], "r": [False]}, test)


def test_a_container_that_is_ending_is_neither_started_nor_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(heard: Heard) -> None:
        await eventually(lambda: heard.said, "a first bad answer")
        heard.asked.set()
        await asyncio.sleep(0)
        count = len(heard.said)
        await asyncio.sleep(0.1)  # five periods in which nothing may be said
        assert len(heard.said) <= count + 1
        assert not {"started", "kill None"} & set(heard.said)

    looked_after(monkeypatch, {"name": "main", "startupProbe": probe("s", failureThreshold=9)}, {"s": [False]}, test)


def test_the_post_start_hook_comes_first_and_kills_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(heard: Heard) -> None:
        await eventually(lambda: "kill None" in heard.said, "the end")
        assert heard.said == ["hook no", "kill None"]

    async def works(heard: Heard) -> None:
        await eventually(lambda: "ready" in heard.said, "ready")
        assert heard.said == ["started", "ready"]

    container = {"name": "main", "lifecycle": {"postStart": {"exec": {"command": ["h"]}}}}
    looked_after(monkeypatch, container, {"h": [False]}, fails)
    looked_after(monkeypatch, container, {"h": [True]}, works)


def test_slow_answers_do_not_stretch_the_period(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(_: dict[str, Any], __: Target, ___: float | None) -> Answer:
        await asyncio.sleep(0.09)
        return Answer(False, "no")

    async def test() -> float:
        clock = asyncio.get_running_loop().time
        begun, heard = clock(), asyncio.Semaphore(0)
        asking = asyncio.create_task(
            watch_probe({"periodSeconds": 0.1}, target(), lambda _: None, lambda _: heard.release())
        )
        for _ in range(10):
            await heard.acquire()
        asking.cancel()
        return clock() - begun

    monkeypatch.setattr("diffusion_local.node.probing.ask", slow)
    assert run_skipping(test()) == pytest.approx(9 * 0.1 + 0.09)
