"""Hand edits that server-side apply alone cannot undo: the spec is set back as a whole."""

from typing import Any

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.cluster import Cluster
from diffusion_operator.kube.errors import ApiRefusal
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.resources import JOB, SERVICE, Resource
from diffusion_operator.kube.store import Store
from diffusion_operator.kube.transport import APPLY, STRATEGIC_PATCH
from diffusion_operator.observe.snapshot import Raw
from scripted_transport import Answer, ScriptedTransport, failure
from world_builders import OPERATOR

KEY = Key("DiffusionService", "ns", "draw")
OURS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"namespace": "ns", "name": "draw-router"},
    "spec": {"ports": [{"name": "http", "port": 80}]},
}
PATCH = "PATCH /api/v1/namespaces/ns/services/draw-router"


def stored(version: int, *ports: Raw) -> dict[str, Any]:
    metadata = {**OURS["metadata"], "uid": "u", "resourceVersion": str(version)}
    return {**OURS, "metadata": metadata, "spec": {"ports": list(ports)}}


THEIRS = {"name": "http", "port": 81}


def cluster_with(transport: ScriptedTransport, *live: tuple[Resource, Raw]) -> Cluster:
    store = Store()
    for resource, item in live:
        store.put(resource, item)
    return Cluster(ApiClient(transport), store, OPERATOR, "operator")


@pytest.mark.parametrize(
    "answer",
    [failure(422, "Invalid"), stored(6, THEIRS, OURS["spec"]["ports"][0])],
    ids=["ours beside theirs is invalid", "theirs stays beside ours"],
)
async def test_where_applying_does_not_bring_ours_back_the_whole_spec_is_written(answer: Answer) -> None:
    transport = ScriptedTransport()
    transport.say(PATCH, answer, stored(7, *OURS["spec"]["ports"]))
    cluster = cluster_with(transport, (SERVICE, stored(5, THEIRS)))
    assert await cluster.apply(KEY, OURS)
    first, second = transport.asked
    assert (first.content_type, second.content_type) == (APPLY, STRATEGIC_PATCH)
    assert second.body == {"spec": {**OURS["spec"], "$patch": "replace"}}
    assert cluster.is_behind_our_last_write(KEY), "until version 7 has been heard of"


async def test_what_applying_brings_back_takes_one_write() -> None:
    transport = ScriptedTransport()
    transport.say(PATCH, stored(6, *OURS["spec"]["ports"]))
    assert await cluster_with(transport, (SERVICE, stored(5))).apply(KEY, OURS)
    assert len(transport.asked) == 1


async def test_a_new_object_that_is_refused_is_refused() -> None:
    transport = ScriptedTransport()
    transport.say(PATCH, failure(422, "Invalid"))
    with pytest.raises(ApiRefusal):
        await cluster_with(transport).apply(KEY, OURS)
    assert len(transport.asked) == 1


@pytest.mark.parametrize("code", [403, 409])
async def test_another_refusal_is_not_argued_with(code: int) -> None:
    transport = ScriptedTransport()
    transport.say(PATCH, failure(code, "Forbidden"))
    with pytest.raises(ApiRefusal):
        await cluster_with(transport, (SERVICE, stored(5, THEIRS))).apply(KEY, OURS)
    assert len(transport.asked) == 1


async def test_a_job_is_never_written_anew_its_template_is_fixed() -> None:
    transport, metadata = ScriptedTransport(), {"namespace": "ns", "name": "j"}
    transport.say("PATCH /apis/batch/v1/namespaces/ns/jobs/j", failure(422, "Invalid"))
    wanted = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"parallelism": 2}}
    live = {**wanted, "metadata": {**metadata, "uid": "u", "resourceVersion": "5"}, "spec": {"parallelism": 1}}
    with pytest.raises(ApiRefusal):
        await cluster_with(transport, (JOB, live)).apply(KEY, wanted)
    assert len(transport.asked) == 1
