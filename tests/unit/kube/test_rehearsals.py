"""Rehearsals: one dry run for each new question, and a refusal is asked for again when it is old."""

import time

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import ApiRefusal
from diffusion_operator.kube.failing_writes import PATIENCE
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.rehearsals import Rehearsals
from diffusion_operator.plan.plan import manifest_digest
from scripted_transport import ScriptedTransport, failure

KEY = Key("DiffusionTraining", "ns", "digits")
JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "ns"}, "spec": {"n": 1}}
OTHER = {**JOB, "spec": {"n": 2}}
PATCH = "PATCH /apis/batch/v1/namespaces/ns/jobs/a"


Stage = tuple[Rehearsals, ScriptedTransport, list[float]]
"""What is tested, its API server, and the time."""


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    transport, now = ScriptedTransport(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return Rehearsals(ApiClient(transport), 10), transport, now


async def test_a_question_is_a_dry_run_and_is_asked_once(stage: Stage) -> None:
    rehearsals, transport, now = stage
    transport.say(PATCH, JOB)
    assert await rehearsals.ask(KEY, [JOB])
    now[0] += 1000
    assert not await rehearsals.ask(KEY, [JOB])
    (asked,) = transport.asked
    assert asked.query["dryRun"] == "All"
    assert rehearsals.known(KEY) == {manifest_digest(JOB): ""}


async def test_another_manifest_is_another_question_and_the_old_one_is_forgotten(stage: Stage) -> None:
    rehearsals, transport, _ = stage
    transport.say(PATCH, JOB)
    await rehearsals.ask(KEY, [JOB])
    assert await rehearsals.ask(KEY, [OTHER])
    assert rehearsals.known(KEY).keys() == {manifest_digest(OTHER)}
    assert not await rehearsals.ask(KEY, [])
    assert rehearsals.known(KEY) == {}


@pytest.mark.parametrize("code", [400, 403, 422])
async def test_a_refusal_is_believed_for_a_while_and_is_news_once(stage: Stage, code: int) -> None:
    rehearsals, transport, now = stage
    transport.say(PATCH, failure(code, "Invalid"), failure(code, "Invalid"), JOB)
    assert await rehearsals.ask(KEY, [JOB])
    assert "said" in rehearsals.known(KEY)[manifest_digest(JOB)]
    now[0] += 9
    assert not await rehearsals.ask(KEY, [JOB])
    assert len(transport.asked) == 1
    now[0] += 1
    assert not await rehearsals.ask(KEY, [JOB]), "the same answer again is no news"
    now[0] += 10
    assert await rehearsals.ask(KEY, [JOB])
    assert rehearsals.known(KEY) == {manifest_digest(JOB): ""}


async def test_a_server_that_fails_has_not_answered(stage: Stage) -> None:
    rehearsals, transport, _ = stage
    transport.say(PATCH, failure(500, "InternalError"))
    with pytest.raises(ApiRefusal):
        await rehearsals.ask(KEY, [JOB])
    assert rehearsals.known(KEY) == {}


async def test_a_server_that_keeps_failing_has_refused_until_it_is_asked_again(stage: Stage) -> None:
    rehearsals, transport, now = stage
    transport.say(PATCH, *[failure(500, "InternalError")] * PATIENCE, JOB)
    for _ in range(PATIENCE - 1):
        with pytest.raises(ApiRefusal):
            await rehearsals.ask(KEY, [JOB])
    assert await rehearsals.ask(KEY, [JOB])
    assert "said" in rehearsals.known(KEY)[manifest_digest(JOB)]
    now[0] += 10
    assert await rehearsals.ask(KEY, [JOB])
    assert rehearsals.known(KEY) == {manifest_digest(JOB): ""}


async def test_a_custom_resource_that_is_gone_is_forgotten(stage: Stage) -> None:
    rehearsals, transport, _ = stage
    transport.say(PATCH, JOB)
    await rehearsals.ask(KEY, [JOB])
    rehearsals.forget(KEY)
    assert rehearsals.known(KEY) == {}
