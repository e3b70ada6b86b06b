import asyncio
import re
import time
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.loop.listening import listen_on
from diffusion_operator.loop.metrics import LoopMetrics
from diffusion_operator.loop.metrics_server import metrics_app
from operator_process import fetch
from scripted_transport import Answer, ScriptedTransport, failure

TOKEN_REVIEW = "POST /apis/authentication.k8s.io/v1/tokenreviews"
ACCESS_REVIEW = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
KNOWN = {"status": {"authenticated": True, "user": {"username": "prometheus", "groups": ["monitoring"]}}}


def metrics() -> LoopMetrics:
    made = LoopMetrics()
    made.called("GET", "200", 0.01)
    made.called("PATCH", "unreachable", 1)
    made.failed("reconcile", ValueError("x"))
    made.reconcile_seconds.labels("DiffusionTraining").observe(0.1)
    made.queue_depth(lambda: 7)
    made.agents_connected(lambda: 3)
    made.watch_silence("Pod", lambda: 0.0)
    return made


async def get(registry: CollectorRegistry, client: ApiClient | None = None, token: str = "") -> tuple[int, str]:
    runner, port = await listen_on(metrics_app(registry, client), "127.0.0.1", 0)
    try:
        return await asyncio.to_thread(fetch, f"http://127.0.0.1:{port}/metrics", token)
    finally:
        await runner.cleanup()


async def test_what_the_loop_does_can_be_read() -> None:
    code, text = await get(metrics().registry)
    assert code == 200
    for line in (
        'diffusion_operator_api_calls_total{code="200",verb="GET"} 1.0',
        'diffusion_operator_api_calls_total{code="unreachable",verb="PATCH"} 1.0',
        'diffusion_operator_errors_total{kind="ValueError",where="reconcile"} 1.0',
        'diffusion_operator_reconcile_seconds_count{kind="DiffusionTraining"} 1.0',
        "diffusion_operator_queue_depth 7.0",
        "diffusion_operator_agents_connected 3.0",
        'diffusion_operator_watch_silence_seconds{kind="Pod"}',
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ):
        assert line in text, line


def test_names_and_kinds_are_those_that_prometheus_expects() -> None:
    """The rules of `promtool check metrics`: help texts, base units, counters (and only they) end in _total."""
    for family in metrics().registry.collect():
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert re.fullmatch(r"(diffusion_operator|process)(_[a-z0-9]+)+", family.name), family.name
        assert not re.search(r"_(total|count|sum|bucket|milliseconds|ms|percent|gauge|counter)$", family.name), (
            family.name
        )
        if family.type == "counter":
            samples = {sample.name for sample in family.samples}
            assert samples <= {f"{family.name}_total", f"{family.name}_created"}, family.name


@pytest.mark.parametrize(
    ("token", "known", "allowed", "code"),
    [
        ("", KNOWN, True, 401),
        ("x", {"status": {"authenticated": False}}, True, 401),
        ("x", KNOWN, False, 403),
        ("x", KNOWN, True, 200),
        ("x", failure(500), True, 503),
    ],
)
async def test_only_those_who_may_read_them_do(token: str, known: Answer, allowed: bool, code: int) -> None:
    transport = ScriptedTransport()
    transport.say(TOKEN_REVIEW, known)
    transport.say(ACCESS_REVIEW, {"status": {"allowed": allowed}})
    assert (await get(metrics().registry, ApiClient(transport), token))[0] == code


async def test_the_right_to_get_the_url_is_asked_for_in_the_callers_name() -> None:
    transport = ScriptedTransport()
    transport.say(TOKEN_REVIEW, KNOWN)
    transport.say(ACCESS_REVIEW, {"status": {"allowed": True}})
    await get(metrics().registry, ApiClient(transport), "x")
    spec = transport.asked[-1].body["spec"]
    assert spec == {
        "user": "prometheus",
        "groups": ["monitoring"],
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
    }


def test_of_several_namespaces_the_most_silent_one_is_shown() -> None:
    made = LoopMetrics()
    for seconds in (0, 1000, 10):
        made.watch_silence("Pod", partial(float, time.monotonic() - seconds))
    shown = made.registry.get_sample_value("diffusion_operator_watch_silence_seconds", {"kind": "Pod"})
    assert shown is not None
    assert 1000 <= shown < 1010


def test_watches_are_counted_without_their_seconds() -> None:
    made = LoopMetrics()
    made.called("WATCH", "200", 300.0)
    value = made.registry.get_sample_value
    assert value("diffusion_operator_api_calls_total", {"verb": "WATCH", "code": "200"}) == 1
    assert value("diffusion_operator_api_seconds_count", {"verb": "WATCH"}) is None


def test_two_operators_in_one_process_do_not_share_their_figures() -> None:
    one, other = LoopMetrics(), LoopMetrics()
    one.called("GET", "200", 0.1)
    assert other.registry.get_sample_value("diffusion_operator_api_calls_total", {"verb": "GET", "code": "200"}) is None
