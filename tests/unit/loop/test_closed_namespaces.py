"""A namespace that may not be read holds up no other, and nothing in it is touched meanwhile."""

import asyncio
from typing import Any

import pytest

import diffusion_operator.loop.closed_namespaces
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.resources import CHILDREN, CUSTOM_RESOURCES, NODE
from diffusion_operator.loop.closed_namespaces import LOOK_AGAIN
from diffusion_operator.loop.engine import Engine
from diffusion_operator.loop.kinds import KINDS
from diffusion_operator.loop.metrics import LoopMetrics
from operator_harness import FACTS
from scripted_transport import ScriptedTransport, failure

EMPTY = {"metadata": {"resourceVersion": "5", "continue": ""}, "items": []}


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion_operator.loop.closed_namespaces, "PATIENCE", 0.01)
    monkeypatch.setattr(diffusion_operator.loop.closed_namespaces, "LOOK_AGAIN", 0.01)


def served(namespace: str, transport: ScriptedTransport, answer: Any) -> None:
    """What the API server says to lists of all kinds in this namespace, from now on."""
    for resource in (*CHILDREN, *CUSTOM_RESOURCES):
        transport.say(f"GET {resource.path(namespace)}", answer)


def engine_for(transport: ScriptedTransport) -> Engine:
    transport.say(f"GET {NODE.path()}", EMPTY)
    return Engine(ApiClient(transport), KINDS, FACTS, metrics=LoopMetrics(), namespaces=("gone", "here"))


async def test_the_others_are_served_and_the_closed_one_is_left_alone() -> None:
    transport = ScriptedTransport()
    served("gone", transport, failure(403, "Forbidden"))
    served("here", transport, EMPTY)
    engine = engine_for(transport)
    async with asyncio.timeout(60), engine.running(workers=1):
        assert "gone" in engine.closed
        assert "here" not in engine.closed
        assert await engine._reconcile(Key("DiffusionTraining", "gone", "run")) == LOOK_AGAIN
        assert {one.method for one in transport.asked} == {"GET"}


async def test_a_namespace_that_opens_is_told_once_all_of_it_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    transport = ScriptedTransport()
    served("gone", transport, failure(403, "Forbidden"))
    served("here", transport, EMPTY)
    engine = engine_for(transport)
    async with asyncio.timeout(60):
        for informer in engine.child_informers:
            if informer.namespace != "gone":
                await informer.list()
        waiting = asyncio.create_task(engine.closed.until_one_opens())
        await asyncio.sleep(0)
        assert "namespace gone is left alone" in caplog.text
        first, *others = [informer for informer in engine.child_informers if informer.namespace == "gone"]
        first.synced.set()
        await asyncio.sleep(0.05)
        assert not waiting.done(), "its pods could still be unknown"
        for informer in others:
            informer.synced.set()
        assert await waiting == "gone"
