"""Which failures are tried again elsewhere, and what the client is told when all is in vain."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from diffusion_router.door.errors import ApiError
from diffusion_router.forwarding import MAX_TRIES, Forwarder
from router_engines import CALL, Engines, good


class BreakingBody(httpx.AsyncByteStream):
    """An answer that begins and does not end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"data":'
        raise httpx.ReadError("gone")


def says(status: int, code: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, json={"error": {"code": code}}, headers={"retry-after": "7"})


def raises(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("no", request=request)

    return answer


@pytest.mark.parametrize(
    "failure",
    [
        raises(httpx.ConnectError),
        raises(httpx.ConnectTimeout),
        raises(httpx.RemoteProtocolError),
        raises(httpx.ReadError),
        says(503, "draining"),
        says(429, "too_many_requests"),
        says(401, "invalid_api_key"),
    ],
)
def test_what_did_not_begin_is_done_by_another_engine(failure: Callable[[httpx.Request], httpx.Response]) -> None:
    engines = Engines()
    engines.add("10.0.0.1", failure)
    engines.add("10.0.0.2", good)
    answer = engines.send()
    assert (answer.status, answer.engine) == (200, "http://10.0.0.2:80")
    assert engines.asked == ["10.0.0.1", "10.0.0.2"]
    assert len(engines.retries) == 1


@pytest.mark.parametrize("status", [200, 400, 404, 413, 500, 502, 504])
def test_an_answer_is_an_answer(status: int) -> None:
    engines = Engines()
    engines.add("10.0.0.1", says(status, "some_code"))
    engines.add("10.0.0.2", good)
    assert engines.send().status == status
    assert engines.asked == ["10.0.0.1"]


def test_an_answer_that_broke_off_is_not_tried_again() -> None:
    engines = Engines()
    engines.add("10.0.0.1", lambda request: httpx.Response(200, stream=BreakingBody()))
    engines.add("10.0.0.2", good)
    assert engines.refusal().code == "engine_failed"
    assert engines.asked == ["10.0.0.1"]


def test_an_engine_that_refused_a_connection_is_not_asked_again_until_it_answers() -> None:
    engines = Engines()
    engines.add("10.0.0.1", raises(httpx.ConnectError))
    engines.add("10.0.0.2", good)
    for _ in range(3):
        engines.send()
    assert engines.asked == ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"]


@pytest.mark.parametrize("behaviours", [[], [raises(httpx.ConnectError)] * 2, [says(503, "draining")]])
def test_without_an_engine_the_client_is_told_when_to_come_back(
    behaviours: list[Callable[..., httpx.Response]],
) -> None:
    engines = Engines()
    for number, behaviour in enumerate(behaviours):
        engines.add(f"10.0.0.{number}", behaviour)
    error = engines.refusal()
    assert (error.code, error.status) == ("no_engine_ready", 503)
    assert int(error.headers["Retry-After"]) >= 1


def test_full_queues_everywhere_are_told_as_such() -> None:
    engines = Engines()
    engines.add("10.0.0.1", says(429, "too_many_requests"))
    engines.add("10.0.0.2", raises(httpx.ConnectError))
    answer = engines.send()
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize("failure", [httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError])
def test_a_request_that_ends_its_engines_gets_two_of_them_and_no_more(failure: type[httpx.TransportError]) -> None:
    engines = Engines()
    for number in range(4):
        engines.add(f"10.0.0.{number}", raises(failure))
    error = engines.refusal()
    assert (error.code, error.status) == ("engine_failed", 502)
    assert len(engines.asked) == 2
    assert engines.retries == ["lost", "lost"]


def test_a_request_that_ended_the_only_engine_is_not_told_to_come_back() -> None:
    engines = Engines()
    engines.add("10.0.0.1", raises(httpx.ReadError))
    assert engines.refusal().code == "engine_failed"


def test_a_key_that_no_engine_knows_any_more_is_told_as_such() -> None:
    engines = Engines()
    engines.add("10.0.0.1", says(401, "invalid_api_key"))
    engines.add("10.0.0.2", says(401, "invalid_api_key"))
    assert engines.send().status == 401
    engines.add("10.0.0.3", says(503, "draining"))
    assert engines.refusal().code == "no_engine_ready", "one that has not said so may know it"


def test_an_engine_that_drains_is_asked_only_when_nobody_else_is_there() -> None:
    engines = Engines()
    engines.add("10.0.0.1", good)
    engines.add("10.0.0.2", good)
    first, second = sorted(engines.table, key=lambda engine: engine.url)
    first.answered(ready=False, outstanding_steps=0, draining=True)
    assert {engines.send().engine for _ in range(3)} == {second.url}
    second.unreachable()
    assert engines.send().engine == first.url


def test_tries_are_bounded() -> None:
    engines = Engines()
    for number in range(10):
        engines.add(f"10.0.0.{number}", raises(httpx.ConnectError))
    engines.refusal()
    assert len(engines.asked) == MAX_TRIES


def test_another_revision_helps_out_but_never_one_without_weight() -> None:
    engines = Engines({"stable": 90, "candidate": 10, "parked": 0})
    engines.add("10.0.0.3", good, "parked")
    assert engines.refusal().code == "no_engine_ready"
    engines.add("10.0.0.2", good, "candidate")
    assert engines.send().engine == "http://10.0.0.2:80"


def test_weights_are_kept_over_a_hundred_requests() -> None:
    engines = Engines({"stable": 95, "candidate": 5})
    engines.add("10.0.0.1", good, "stable")
    engines.add("10.0.0.2", good, "candidate")
    for _ in range(100):
        engines.send()
    assert engines.asked.count("10.0.0.2") == 5


def test_no_work_is_left_counted_after_success_failure_or_a_client_that_left() -> None:
    engines = Engines()
    engines.add("10.0.0.1", good)
    engines.send()
    assert engines.table.outstanding_work == 0

    async def leave() -> None:
        begun, never = asyncio.Event(), asyncio.Event()

        async def hang(request: httpx.Request) -> httpx.Response:
            begun.set()
            await never.wait()
            return good(request)

        client = httpx.AsyncClient(transport=httpx.MockTransport(hang))
        forwarder = Forwarder(engines.table, lambda: engines.routes, client, engines.retries.append)
        task = asyncio.create_task(forwarder.send(CALL))
        await begun.wait()
        assert engines.table.outstanding_work == CALL.work
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert engines.table.outstanding_work == 0

    asyncio.run(leave())


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_router.forwarding.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("diffusion_router.forwarding._GRACE_SECONDS", 0.0)


def test_an_engine_that_never_answers_ends_in_a_timeout_and_is_not_tried_elsewhere() -> None:
    async def scene() -> ApiError:
        engines = Engines()
        engines.add("10.0.0.1", good)
        asked = []

        async def hang(request: httpx.Request) -> httpx.Response:
            asked.append(request.url.host)
            await asyncio.Event().wait()
            return good(request)

        client = httpx.AsyncClient(transport=httpx.MockTransport(hang))
        with pytest.raises(ApiError) as caught:
            await Forwarder(engines.table, lambda: engines.routes, client, engines.retries.append).send(CALL)
        assert asked == ["10.0.0.1"]
        return caught.value

    assert asyncio.run(scene()).code == "timeout"
