"""The router's HTTP face: what it adds to an engine's answer, what it passes on, and what it refuses itself."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from diffusion_contract.agent_messages import Route
from diffusion_contract.serving_config import RouterConfig
from diffusion_router.app import router_app
from diffusion_router.door.api_keys import ApiKeys
from diffusion_router.door.metrics_page import metrics_app
from diffusion_router.engine_table import EngineTable
from diffusion_router.forwarding import Forwarder
from diffusion_router.front_door import FrontDoor
from diffusion_router.measures import RouterMeasures
from router_network import DIGEST
from serving_pods import KEY, SAMPLING, write_key

ROUTE = Route(revision="r1", host="engines.test", port=80, model_digest=DIGEST)
PATH = "/v1/images/generations"


class Bench:
    """A router application in front of one engine that the test plays."""

    def __init__(self, folder: Path, max_in_flight: int = 512) -> None:
        write_key(folder)
        self.sent: list[dict[str, Any]] = []
        self.work: list[int] = []
        self.engine_says = httpx.Response(
            200, json={"created": 1, "data": []}, headers={"x-diffusion-revision": "r1", "x-internal": "hidden"}
        )
        self.table = EngineTable()
        self.table.resolved(ROUTE, ["10.0.0.1"])
        for engine in self.table:
            engine.answered(ready=True, outstanding_steps=0)
        self.found = True
        self.measures = RouterMeasures()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._engine))
        forwarder = Forwarder(self.table, lambda: (ROUTE,), client, self.measures.count_retry)
        config = RouterConfig(service="digits", namespace="default", sampling=SAMPLING, routes=(ROUTE,))
        self.keys = ApiKeys(folder)
        self.door = FrontDoor(lambda: self.found, max_in_flight)
        self.well = True
        self.app = router_app(config, self.door, forwarder, self.keys, self.measures, lambda: self.well)

    def _engine(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        self.sent.append(json.loads(request.content or b"{}"))
        self.work.append(self.table.outstanding_work)
        return self.engine_says

    def ask(self, method: str = "POST", path: str = PATH, app: ASGIApp | None = None, **how: Any) -> httpx.Response:
        async def scene() -> httpx.Response:
            transport = httpx.ASGITransport(app=app or self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
                return await client.request(method, path, headers={"Authorization": f"Bearer {KEY}"}, **how)

        return asyncio.run(scene())

    def generate(self, **body: Any) -> httpx.Response:
        return self.ask(json=body)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_engines_answer_and_its_headers_are_passed_on(bench: Bench) -> None:
    answer = bench.generate(seed=1)
    assert answer.status_code == 200
    assert answer.json() == {"created": 1, "data": []}
    assert answer.headers["x-diffusion-revision"] == "r1"
    assert "x-internal" not in answer.headers


def test_the_seed_is_chosen_before_an_engine_is_asked(bench: Bench) -> None:
    bench.generate(label=3)
    bench.generate(seed=0)
    assert 0 <= bench.sent[0]["seed"] < 2**53
    assert bench.sent[0]["label"] == 3
    assert bench.sent[1]["seed"] == 0


@pytest.mark.parametrize(
    ("body", "work"), [({}, 8), ({"n": 3}, 24), ({"steps": 5, "n": 2}, 10), ({"class": "slow"}, 400)]
)
def test_work_is_counted_in_steps_times_images(bench: Bench, body: dict[str, Any], work: int) -> None:
    bench.generate(**body)
    assert bench.work == [work]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"n": 11}, 400, "invalid_value", "n"),
        ({"steps": 1001}, 400, "invalid_value", "steps"),
        ({"class": "gold"}, 400, "invalid_value", "class"),
        ({"colour": 1}, 400, "unknown_parameter", "colour"),
        ({"model": "other"}, 404, "model_not_found", "model"),
    ],
)
def test_what_is_wrong_for_every_engine_reaches_none(
    bench: Bench, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    error = bench.generate(**body)
    assert (error.status_code, error.json()["error"]["code"], error.json()["error"]["param"]) == (status, code, param)
    assert not bench.sent


def test_an_engines_refusal_is_passed_on_with_its_code(bench: Bench) -> None:
    bench.engine_says = httpx.Response(400, json={"error": {"code": "invalid_value", "param": "size"}})
    answer = bench.generate(size="9x9")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")


def test_a_full_engine_says_when_to_come_back(bench: Bench) -> None:
    bench.engine_says = httpx.Response(429, json={"error": {"code": "too_many_requests"}}, headers={"retry-after": "9"})
    answer = bench.generate()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")


def test_too_many_requests_at_once_are_refused_by_the_router_itself(tmp_path: Path) -> None:
    answer = Bench(tmp_path, max_in_flight=0).generate()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_requests")
    assert answer.headers["retry-after"]


def test_no_engine_is_a_503_that_passes(bench: Bench) -> None:
    for engine in bench.table:
        engine.unreachable()
    answer = bench.generate()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_engine_ready")
    assert answer.json()["error"]["type"] == "server_error"
    assert answer.headers["retry-after"]


def test_models_are_described_by_an_engine(bench: Bench) -> None:
    bench.engine_says = httpx.Response(200, json={"object": "list", "data": []})
    assert bench.ask("GET", "/v1/models").json() == {"object": "list", "data": []}


def test_the_router_is_ready_once_it_has_looked_for_engines_and_until_it_closes(bench: Bench) -> None:
    bench.found = False
    assert bench.ask("GET", "/readyz").status_code == 503
    assert bench.ask("GET", "/healthz").status_code == 200
    bench.found = True
    assert bench.ask("GET", "/readyz").status_code == 200
    asyncio.run(bench.door.close(lame_duck_seconds=0))
    assert bench.ask("GET", "/readyz").status_code == 503
    assert bench.generate().status_code == 200, "what still arrives is answered"


def test_a_router_that_finds_no_engines_any_more_is_not_alive(bench: Bench) -> None:
    bench.well = False
    assert bench.ask("GET", "/healthz").status_code == 503


async def test_closing_waits_for_the_requests_that_are_being_answered() -> None:
    door = FrontDoor(lambda: True)
    with door.passing():
        closing = asyncio.create_task(door.close(lame_duck_seconds=0, drain_seconds=600))
        await asyncio.sleep(0.01)
        assert not closing.done()
    await asyncio.wait_for(closing, 60)
    with door.passing():
        await asyncio.wait_for(door.close(lame_duck_seconds=0, drain_seconds=0.01), 60)


def test_metrics_need_a_key_and_show_what_happened(bench: Bench) -> None:
    bench.generate(seed=1)
    bench.measures.show_ready({"r1": 2})
    app = metrics_app(bench.measures.registry, bench.keys)
    page = bench.ask("GET", "/metrics", app).text
    assert f'diffusion_router_requests_total{{code="200",path="{PATH}"}} 1.0' in page
    assert 'diffusion_router_ready_engines{revision="r1"} 2.0' in page

    async def without_key() -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://m") as client:
            return (await client.get("/metrics")).status_code

    assert asyncio.run(without_key()) == 401


def test_prompts_stay_out_of_the_log_and_equal_ones_look_equal(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="diffusion_router")
    for prompt in ("my secret", "my secret", "another one"):
        bench.generate(prompt=prompt)
    marks = [word for word in caplog.text.split() if word.startswith("prompt=")]
    assert "secret" not in caplog.text
    assert marks[0] == marks[1] != marks[2]
    assert marks[0].startswith("prompt=9:")
