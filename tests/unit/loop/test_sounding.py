"""The custom resources are listed often enough to find out that kopf does not hear."""

import asyncio
import contextlib

import pytest

import diffusion_operator.loop.engine
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import CHILDREN, CUSTOM_RESOURCES, NODE, TRAINING
from diffusion_operator.loop.engine import Engine
from diffusion_operator.loop.kinds import KINDS
from diffusion_operator.loop.metrics import LoopMetrics
from operator_harness import FACTS, until
from scripted_transport import ScriptedTransport
from world_builders import MINIMAL, custom_resource


def listed(version: int) -> dict[str, object]:
    raw = custom_resource(MINIMAL)
    item = {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(version)}}
    return {"metadata": {"resourceVersion": str(version), "continue": ""}, "items": [item]}


async def test_between_two_resyncs_a_list_finds_what_kopf_did_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion_operator.loop.engine, "SOUNDING_SECONDS", 0.01)
    transport = ScriptedTransport()
    for resource in (*CHILDREN, *CUSTOM_RESOURCES, NODE):
        transport.say(f"GET {resource.path()}", listed(6) if resource == TRAINING else {**listed(6), "items": []})
    engine = Engine(ApiClient(transport), KINDS, FACTS, metrics=LoopMetrics())
    await engine.resync()
    for raw in engine.store.all(TRAINING):
        engine.hearing.told(TRAINING, raw)
    enqueued = engine.queue.depth
    sounding = asyncio.create_task(engine.keep_resyncing(600))
    try:
        asked = len(transport.asked)
        await until(lambda: len(transport.asked) > asked + 2, 60, "another list of each kind")
        assert not engine.hearing.is_owed, "kopf has told all that the lists find"
        transport.say(f"GET {TRAINING.path()}", listed(7))
        await until(lambda: engine.hearing.is_owed, 60, "a list with news")
        assert engine.queue.depth == enqueued, "nothing is enqueued but what is new"
    finally:
        sounding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sounding
