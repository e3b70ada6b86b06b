"""The engine's HTTP face over a loop that is a stand-in: answers, headers, every code, and what the log may hold."""

import asyncio
import base64
import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest

from diffusion_router.door.image_request import ImageRequest
from diffusion_server.image_id import read_image_id
from diffusion_server.step_loop import Load, SamplingFailedError
from engine_bench import DIGEST, PATH, Bench
from serving_pods import KEY


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_answer_has_the_shape_of_openai_and_says_where_it_came_from(bench: Bench) -> None:
    answer = bench.generate(seed=5, label=3, n=2)
    assert answer.status_code == 200
    body = answer.json()
    assert isinstance(body["created"], int)
    assert [(item["seed"], item["label"]) for item in body["data"]] == [(5, 3), (6, 3)]
    assert base64.b64decode(body["data"][0]["b64_json"]).startswith(b"\x89PNG")
    said = {name: value for name, value in answer.headers.items() if name.startswith("x-diffusion-")}
    assert read_image_id(said.pop("x-diffusion-image-id")) == (DIGEST, bench.loop.samples[0])
    assert said == {
        "x-diffusion-revision": "r1",
        "x-diffusion-model-digest": DIGEST,
        "x-diffusion-seed": "5",
        "x-diffusion-steps": "8",
        "x-diffusion-sampler": "Euler",
        "x-diffusion-queue-ms": "10",
        "x-diffusion-compute-ms": "20",
        "x-diffusion-cache": "miss",
    }


def test_null_means_absent_for_every_field(bench: Bench) -> None:
    nothing = {field.alias or name: None for name, field in ImageRequest.model_fields.items()}
    answer = bench.generate(**nothing)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 1


def test_a_path_with_a_slash_too_many_is_refused_with_its_code(bench: Bench) -> None:
    answer = asyncio.run(bench.ask(path=PATH + "/", json={}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_each_image_has_an_id_of_its_own(bench: Bench) -> None:
    ids = [item["id"] for item in bench.generate(seed=5, n=3).json()["data"]]
    assert [read_image_id(text)[1].seed for text in ids] == [5, 6, 7]


def raw(content: bytes) -> dict[str, Any]:
    return {"content": content, "headers": {"Content-Type": "application/json"}}


HASH = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
BASIC = {"Authorization": f"Basic {KEY}"}
BAD_REQUESTS: list[tuple[str, dict[str, Any], int, str, str | None]] = [
    ("no json", raw(b"{"), 400, "invalid_json", None),
    ("no utf-8", raw(b'"\xff"'), 400, "invalid_json", None),
    ("a name twice", raw(b'{"n":1,"n":2}'), 400, "invalid_json", None),
    ("NaN", raw(b'{"guidance_scale":NaN}'), 400, "invalid_json", None),
    ("deep", raw(b"[" * 60000), 400, "invalid_json", None),
    ("a long number", raw(b'{"seed":' + b"9" * 5000 + b"}"), 400, "invalid_json", None),
    ("no object", {"json": [1]}, 400, "invalid_value", None),
    ("empty", raw(b""), 400, "invalid_json", None),
    ("unknown", {"json": {"colour": "red"}}, 400, "unknown_parameter", "colour"),
    ("its inner name", {"json": {"service_class": "final"}}, 400, "unknown_parameter", "service_class"),
    ("n too small", {"json": {"n": 0}}, 400, "invalid_value", "n"),
    ("n too large", {"json": {"n": 11}}, 400, "invalid_value", "n"),
    ("n as text", {"json": {"n": "2"}}, 400, "invalid_value", "n"),
    ("n as truth", {"json": {"n": True}}, 400, "invalid_value", "n"),
    ("n as float", {"json": {"n": 2.5}}, 400, "invalid_value", "n"),
    ("size", {"json": {"size": "1024x1024"}}, 400, "invalid_value", "size"),
    ("size as word", {"json": {"size": "large"}}, 400, "invalid_value", "size"),
    ("steps 0", {"json": {"steps": 0}}, 400, "invalid_value", "steps"),
    ("steps 1001", {"json": {"steps": 1001}}, 400, "invalid_value", "steps"),
    ("guidance", {"json": {"guidance_scale": -1}}, 400, "invalid_value", "guidance_scale"),
    ("seed", {"json": {"seed": -1}}, 400, "invalid_value", "seed"),
    ("seed large", {"json": {"seed": 2**63}}, 400, "invalid_value", "seed"),
    ("class", {"json": {"class": "gold"}}, 400, "invalid_value", "class"),
    ("label", {"json": {"label": 10}}, 400, "invalid_value", "label"),
    ("label below", {"json": {"label": -1}}, 400, "invalid_value", "label"),
    ("url", {"json": {"response_format": "url"}}, 400, "invalid_value", "response_format"),
    ("prompt", {"json": {"prompt": "a cat"}}, 400, "invalid_value", "prompt"),
    ("surrogate", raw(b'{"prompt":"\\ud800"}'), 400, "invalid_value", "prompt"),
    ("surrogate name", raw(b'{"\\ud800":1}'), 400, "invalid_value", None),
    ("model", {"json": {"model": "dall-e-3"}}, 404, "model_not_found", "model"),
    ("path", {"path": "/v1/images", "json": {}}, 404, "not_found", None),
    ("method", {"method": "GET"}, 405, "method_not_allowed", None),
    ("too large", raw(b" " * 70000), 413, "body_too_large", None),
    ("form", {"data": {"n": "1"}}, 415, "unsupported_media_type", None),
    ("no type", {"content": b"{}"}, 415, "unsupported_media_type", None),
    ("no key", {"key": None, "json": {}}, 401, "missing_api_key", None),
    ("no key, no path", {"key": None, "path": "/nothing", "json": {}}, 401, "missing_api_key", None),
    ("wrong key", {"key": "guess", "json": {}}, 401, "invalid_api_key", None),
    ("the hash itself", {"key": HASH, "json": {}}, 401, "invalid_api_key", None),
    ("another scheme", {"key": None, "json": {}, "headers": BASIC}, 401, "invalid_api_key", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "status", "code", "param"), [row[1:] for row in BAD_REQUESTS], ids=[row[0] for row in BAD_REQUESTS]
)
def test_every_bad_request_gets_its_own_code(
    bench: Bench, how: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    answer = asyncio.run(bench.ask(**how))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["message"]
    assert error["type"] == ("authentication_error" if status == 401 else "invalid_request_error")
    assert not bench.loop.samples, "nothing was begun"
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"seed":1,"\\u0073eed":2}', "'seed' occurs twice"),
        (b'{"guidance_scale":NaN}', "NaN is not JSON"),
        (b'{"prompt":"\xff"}', "UTF-8"),
        (b"[" * 30000, "nested too deeply"),
        (b'{"size":"512x512"}', "8x8 only"),
        (b'{"size":"8 by 8"}', "8x8 only"),
    ],
)
def test_a_refusal_says_what_is_to_be_mended(bench: Bench, body: bytes, words: str) -> None:
    assert words in asyncio.run(bench.ask(**raw(body))).json()["error"]["message"]


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"key": None, "json": {}}, "refused key=- path=/v1/images/generations code=401 error=missing_api_key"),
        ({"key": "guess", "path": "/a-secret", "json": {}}, "refused key=- path=other code=401 error=invalid_api_key"),
        ({"json": {"a-secret": 1}}, "refused key=tester path=/v1/images/generations code=400 error=unknown_parameter"),
        ({"path": "/a-secret", "json": {}}, "refused key=tester path=other code=404 error=not_found"),
    ],
)
def test_a_refusal_leaves_a_line_with_nothing_of_what_was_sent(
    bench: Bench, how: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asyncio.run(bench.ask(**how))
    assert [record.getMessage() for record in caplog.records if record.name.endswith("guard")] == [line]


def test_a_body_without_an_announced_length_is_bounded_as_well(bench: Bench) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 8192

    answer = asyncio.run(bench.ask(content=chunks(), headers={"Content-Type": "application/json"}))
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_full_queue_says_when_to_come_back(bench: Bench) -> None:
    bench.loop.now = Load(running=16, waiting=5000, outstanding_steps=500_000)
    answer = bench.generate()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 600
    assert answer.json()["error"]["type"] == "rate_limit_error"


def test_an_image_that_could_not_be_made_is_an_error_and_not_a_picture(tmp_path: Path) -> None:
    answer = Bench(tmp_path, SamplingFailedError("sampling failed: RuntimeError")).generate()
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")


def test_an_engine_that_still_loads_is_alive_and_not_ready(tmp_path: Path) -> None:
    bench = Bench(tmp_path, is_open=False)
    assert asyncio.run(bench.ask("GET", "/healthz", key=None)).status_code == 200
    ready = asyncio.run(bench.ask("GET", "/readyz", key=None))
    assert (ready.status_code, ready.json()["phase"]) == (503, "Loading")
    answer = bench.generate()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_engine_ready")
    assert answer.headers["retry-after"]


def test_readiness_says_whose_engine_it_is_and_how_busy(bench: Bench) -> None:
    bench.loop.now = Load(2, 3, 77)
    said = asyncio.run(bench.ask("GET", "/readyz", key=None))
    assert said.status_code == 200
    assert said.json() == {"ready": True, "phase": "Ready", "revision": "r1", "outstanding_steps": 77}


def test_a_dead_compute_thread_turns_liveness_red(bench: Bench) -> None:
    bench.loop.healthy = False
    assert asyncio.run(bench.ask("GET", "/healthz", key=None)).status_code == 503
    assert asyncio.run(bench.ask("GET", "/readyz", key=None)).status_code == 503
    answer = bench.generate()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_engine_ready"), "another engine may draw"
    assert not bench.loop.samples


def test_the_model_is_described(bench: Bench) -> None:
    (model,) = asyncio.run(bench.ask("GET", "/v1/models")).json()["data"]
    assert (model["id"], model["object"], model["digest"], model["size"]) == ("digits", "model", DIGEST, "8x8")
    assert model["classes"] == [{"name": "final", "steps": 8}, {"name": "slow", "steps": 400}]


def test_prompts_and_images_stay_out_of_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.generate(prompt="7", seed=123456789)
    bench.generate(prompt="a very secret wish")
    asyncio.run(bench.ask(json={"prompt": 5, "hidden-secret": 1}))
    text = caplog.text
    assert "seed=123456789" in text
    assert DIGEST in text
    assert "prompt=1:" in text
    assert "secret" not in text
    assert "iVBOR" not in text
    assert KEY not in text.replace("key=tester", "")


def test_answers_are_counted_by_path_and_code(bench: Bench) -> None:
    bench.generate(seed=1)
    bench.generate(n=0)
    asyncio.run(bench.ask("GET", "/surprise"))
    samples = {
        (sample.labels["path"], sample.labels["code"]): sample.value
        for metric in bench.measures.requests.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    assert samples == {(PATH, "200"): 1, (PATH, "400"): 1, ("other", "404"): 1}
