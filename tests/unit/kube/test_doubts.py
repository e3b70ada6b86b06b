"""A custom resource that kopf never told the end of: it must not get its children back again and again."""

from typing import Any

import pytest

from diffusion_contract.names import MANAGED_BY, MANAGED_BY_LABEL, TRAINING_LABEL
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.cluster import Cluster
from diffusion_operator.kube.errors import ApiRefusal, NotFound
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.resources import CONFIG_MAP, TRAINING
from diffusion_operator.kube.store import Store
from diffusion_operator.kube.transport import Reply
from operator_harness import FACTS
from scripted_transport import ScriptedTransport, failure
from tiny_planner import TINY

KEY = Key("DiffusionTraining", "ns", "digits")
GET = "GET /apis/diffusion.dev/v1alpha1/namespaces/ns/diffusiontrainings/digits"
PUT = "PUT /apis/diffusion.dev/v1alpha1/namespaces/ns/diffusiontrainings/digits/status"


def custom_resource(uid: str = "u1", version: int = 1) -> dict[str, Any]:
    metadata = {"name": "digits", "namespace": "ns", "uid": uid, "resourceVersion": str(version), "generation": 1}
    return {"metadata": metadata, "spec": {}}


def child(owner: str = "u1", version: int = 2) -> dict[str, Any]:
    labels = {MANAGED_BY_LABEL: MANAGED_BY, TRAINING_LABEL: "digits"}
    owners = [{"uid": owner, "kind": "DiffusionTraining", "name": "digits"}]
    metadata = {"name": "c", "namespace": "ns", "uid": "c", "resourceVersion": str(version)}
    return {"metadata": {**metadata, "labels": labels, "ownerReferences": owners}}


class Scene:
    """A training with a child, as a cluster with a scripted API server sees them."""

    def __init__(self) -> None:
        self.transport, self.store = ScriptedTransport(), Store()
        self.transport.say("GET /api/v1/namespaces/ns/secrets/tiny", failure(404))
        self.cluster = Cluster(ApiClient(self.transport), self.store, FACTS, "op")
        self.store.put(TRAINING, custom_resource())
        self.store.put(CONFIG_MAP, child())

    async def seen(self) -> str | None:
        snapshot = await self.cluster.snapshot(KEY, TINY)
        return None if snapshot is None else str(snapshot.custom_resource["metadata"]["uid"])

    @property
    def asked(self) -> int:
        return [f"{asked.method} {asked.path}" for asked in self.transport.asked].count(GET)


async def test_without_a_lost_child_nothing_is_asked() -> None:
    scene = Scene()
    assert await scene.seen() == "u1"
    scene.store.put(CONFIG_MAP, child(version=3))
    assert await scene.seen() == "u1"
    assert scene.asked == 0


async def test_a_lost_child_is_reason_to_ask_once() -> None:
    scene = Scene()
    scene.transport.say(GET, custom_resource(version=5))
    scene.store.remove(CONFIG_MAP, child())
    assert await scene.seen() == "u1"
    known = scene.store.get(TRAINING, "ns", "digits")
    assert known is not None
    assert known["metadata"]["resourceVersion"] == "5"
    assert await scene.seen() == "u1"
    assert scene.asked == 1


async def test_a_ghost_is_found_out_and_gone_for_good() -> None:
    scene = Scene()
    scene.store.remove(CONFIG_MAP, child())
    assert await scene.seen() is None
    scene.store.put(TRAINING, custom_resource(version=9))
    assert await scene.seen() is None, "a late word about it"


async def test_a_namesake_takes_its_place() -> None:
    scene = Scene()
    scene.transport.say(GET, custom_resource("u2", version=7))
    scene.store.remove(CONFIG_MAP, child())
    assert await scene.seen() == "u2"


async def test_a_namesake_that_comes_while_the_ghost_is_asked_about_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    ask = scene.transport.request

    async def ask_and_hear(*asked: Any) -> Reply:
        answer = await ask(*asked)
        scene.store.put(TRAINING, custom_resource("u2", version=7))
        return answer

    monkeypatch.setattr(scene.transport, "request", ask_and_hear)
    scene.store.remove(CONFIG_MAP, child())
    assert await scene.seen() == "u2"


async def test_an_answer_that_did_not_come_leaves_the_doubt() -> None:
    scene = Scene()
    scene.transport.say(GET, failure(403), failure(404))
    scene.store.remove(CONFIG_MAP, child())
    with pytest.raises(ApiRefusal):
        await scene.seen()
    assert await scene.seen() is None


async def test_the_child_of_a_former_namesake_is_no_reason() -> None:
    scene = Scene()
    scene.store.put(CONFIG_MAP, child(owner="u0", version=4))
    scene.store.remove(CONFIG_MAP, child(owner="u0", version=4))
    assert await scene.seen() == "u1"
    assert scene.asked == 0


async def test_a_status_that_finds_nobody_says_that_the_custom_resource_is_gone() -> None:
    scene = Scene()
    scene.transport.say(PUT, failure(404))
    with pytest.raises(NotFound):
        await scene.cluster.put_status(KEY, custom_resource(), {"phase": "Running"})
    assert scene.store.get(TRAINING, "ns", "digits") is None
