from typing import Any

from diffusion_contract.names import SERVICE_LABEL, TRAINING_LABEL
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.references import References
from diffusion_operator.kube.resources import MODEL_SERVICE, NODE, POD, TRAINING
from diffusion_operator.kube.store import Store
from diffusion_operator.loop.routing import Router
from diffusion_operator.observe.snapshot import Reference
from scripted_transport import ScriptedTransport

TRAINED, SERVED = Key("DiffusionTraining", "ns", "digits"), Key("DiffusionService", "ns", "draw")


class Bench:
    def __init__(self) -> None:
        self.store = Store()
        self.turns: list[Key] = []
        self.urgent: list[Key] = []
        self.references = References(ApiClient(ScriptedTransport()), self.store)
        router = Router(self.store, self.references, self.turns.append, self.urgently)
        self.store.listeners.append(router.changed)

    def urgently(self, key: Key) -> None:
        self.turns.append(key)
        self.urgent.append(key)

    def turn(self) -> list[Key]:
        turns, self.turns[:] = list(self.turns), []
        return turns


def thing(name: str, version: int = 1, **more: Any) -> dict[str, Any]:
    labels = more.pop("labels", {})
    metadata = {"name": name, "namespace": more.pop("namespace", "ns"), "uid": name, "resourceVersion": str(version)}
    return {"metadata": {**metadata, "labels": labels}, **more}


def node(version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "n1", "uid": "n1", "resourceVersion": str(version)}, **more}


def test_a_custom_resource_is_looked_at_when_it_changes() -> None:
    bench = Bench()
    bench.store.put(TRAINING, thing("digits"))
    assert bench.turn() == [TRAINED]


def test_a_child_is_a_hint_to_look_at_whom_its_labels_name() -> None:
    bench = Bench()
    bench.store.put(POD, thing("a", labels={TRAINING_LABEL: "digits"}, spec={}))
    assert bench.turn() == [TRAINED]
    bench.store.remove(POD, thing("a"))
    assert bench.turn() == [TRAINED]


def test_a_child_whose_label_was_changed_concerns_the_old_and_the_new_owner() -> None:
    bench = Bench()
    bench.store.put(POD, thing("a", 1, labels={TRAINING_LABEL: "digits"}, spec={}))
    bench.turn()
    bench.store.put(POD, thing("a", 2, labels={SERVICE_LABEL: "draw"}, spec={}))
    assert set(bench.turn()) == {TRAINED, SERVED}


async def test_whoever_refers_to_a_custom_resource_is_looked_at_when_that_changes() -> None:
    bench = Bench()
    reference = Reference(TRAINING.api_version, TRAINING.kind, "ns", "digits")
    assert (await bench.references.look_up(SERVED, [reference])).found == {reference: None}
    bench.store.put(TRAINING, thing("digits"))
    assert bench.turn() == [TRAINED, SERVED]
    await bench.references.look_up(SERVED, [])
    bench.store.put(TRAINING, thing("digits", 2))
    assert bench.turn() == [TRAINED]


async def test_who_was_forgotten_is_not_looked_at_any_more() -> None:
    bench = Bench()
    reference = Reference(TRAINING.api_version, TRAINING.kind, "ns", "digits")
    await bench.references.look_up(SERVED, [reference])
    bench.references.forget(SERVED)
    bench.store.put(TRAINING, thing("digits"))
    assert bench.turn() == [TRAINED]


def test_a_node_that_announces_its_end_concerns_the_owners_of_its_pods() -> None:
    bench = Bench()
    bench.store.put(NODE, node(1))
    bench.store.put(POD, thing("a", labels={TRAINING_LABEL: "digits"}, spec={"nodeName": "n1"}))
    bench.store.put(POD, thing("b", labels={SERVICE_LABEL: "draw"}, spec={"nodeName": "n2"}))
    bench.turn()
    bench.store.put(NODE, node(2, spec={"taints": [{"key": "aws-node-termination-handler/spot-itn"}]}))
    assert bench.turn() == [TRAINED]
    bench.store.remove(NODE, node(2))
    assert bench.turn() == [TRAINED]
    assert bench.urgent == [TRAINED, TRAINED]


def test_the_heartbeat_of_a_node_concerns_nobody() -> None:
    bench = Bench()
    ready = {"type": "Ready", "status": "True"}
    bench.store.put(NODE, node(1, status={"conditions": [{**ready, "lastHeartbeatTime": "1"}]}))
    bench.store.put(POD, thing("a", labels={TRAINING_LABEL: "digits"}, spec={"nodeName": "n1"}))
    bench.turn()
    bench.store.put(NODE, node(2, status={"conditions": [{**ready, "lastHeartbeatTime": "2"}], "images": []}))
    assert bench.turn() == []
    bench.store.put(NODE, node(3, status={"conditions": [{"type": "Ready", "status": "Unknown"}]}))
    assert bench.turn() == [TRAINED]


def test_both_kinds_are_told_apart_though_they_have_the_same_name() -> None:
    bench = Bench()
    bench.store.put(MODEL_SERVICE, thing("digits"))
    assert bench.turn() == [Key("DiffusionService", "ns", "digits")]
