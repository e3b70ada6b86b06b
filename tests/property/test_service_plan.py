"""What holds for a DiffusionService whatever users, controllers and accidents do, in any order."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom_resource_tables import schema_of
from diffusion_contract.api_key_hash import SHAPE
from diffusion_operator.api.service_spec import DiffusionServiceSpec
from diffusion_operator.observe.service_world import observe_service, references
from diffusion_operator.observe.snapshot import Snapshot
from diffusion_operator.plan.service import decide_service
from schema_comparison import misfits
from service_simulation import Simulation, container_ended, container_waiting, model
from world_builders import OPERATOR

EXAMPLES = settings(max_examples=20, deadline=None)

EDITS: list[dict[str, Any]] = [
    {"model": {"ref": model("a")}},
    {"model": {"ref": model("b")}},
    {"model": {"fromTraining": {"name": "run"}}},
    {"replicas": {"min": 0}},
    {"replicas": {"min": 3}},
    {"image": "server:2"},
    {"image": None},
    {"sampling": {"sampler": "Euler"}},
    {"auth": {"keysRef": {"name": "others"}}},
    {"sampling": {"classes": [{"name": "NOT A NAME", "steps": 1}]}},
]
EVENTS = (
    *("edit", "edit", "step", "step", "step", "wait", "break", "mend", "lose object", "lose secret", "lose status"),
    *("silence", "hear", "new operator", "spoil a key"),
)


ALL_CONDITIONS = ("Available", "KeysInvalid", "Ready", "Reconciling", "Stalled")


def shake(simulation: Simulation, data: st.DataObject) -> None:
    """One thing happens to the service."""
    event = data.draw(st.sampled_from(EVENTS), label="event")
    if event == "edit":
        simulation.change(**data.draw(st.sampled_from(EDITS), label="edit"))
    elif event == "wait":
        simulation.step(60)
    elif event == "break" and (candidate := simulation.status.get("candidate")):
        trouble = data.draw(st.sampled_from([container_ended(64), container_waiting("ErrImagePull")]))
        simulation.broken[candidate["revision"]] = trouble
    elif event == "mend":
        simulation.broken.clear()
        simulation.referenced[("Secret", "digits-keys")] = {"data": {"me": SHAPE}}
    elif event == "lose object" and simulation.objects:
        del simulation.objects[data.draw(st.sampled_from(sorted(simulation.objects)), label="lost")]
    elif event == "lose secret":
        simulation.referenced.pop(("Secret", "digits-keys"), None)
    elif event == "lose status":
        simulation.raw.pop("status", None)
    elif event == "silence":
        simulation.silence(data.draw(st.sampled_from(sorted(simulation.routers()) or [""]), label="silent"))
    elif event == "hear":
        simulation.silent.clear()
        simulation.deaf.clear()
    elif event == "spoil a key":
        simulation.referenced[("Secret", "digits-keys")] = {"data": {"me": SHAPE, "you": ""}}
    elif event == "new operator":
        simulation.reports.clear()
    simulation.step()


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 12))
def test_requests_only_ever_go_where_all_pods_were_available(data: st.DataObject, length: int) -> None:
    simulation = Simulation()
    simulation.reconcile()
    for _ in range(length):
        before = simulation.status.get("stable")
        shake(simulation, data)
        after = simulation.status.get("stable")
        if after is not None and (before is None or before["revision"] != after["revision"]):
            seen = [world.engines.get(after["revision"]) for world in simulation.worlds]
            wanted = simulation.raw["spec"]["replicas"]["min"]
            assert wanted == 0 or any(facts is not None and facts.available >= wanted for facts in seen[-2:])


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 12))
def test_the_revision_that_serves_is_never_deleted(data: st.DataObject, length: int) -> None:
    simulation = Simulation()
    simulation.reconcile()
    for _ in range(length):
        shake(simulation, data)
        kept = {simulation.status.get(role, {}).get("revision") for role in ("stable", "candidate")}
        for reference in simulation.plans[-1].delete:
            assert not [revision for revision in kept if revision and revision in reference.name]


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 12))
def test_no_revision_is_deleted_to_which_a_router_sends_requests(data: st.DataObject, length: int) -> None:
    """Whatever the operator has heard: routers that are silent may be anywhere."""
    simulation = Simulation()
    simulation.reconcile()
    for _ in range(length):
        before = {route.revision for uid in simulation.routers() for route in simulation.in_force.get(uid, ())}
        shake(simulation, data)
        for reference in simulation.plans[-1].delete:
            assert not [revision for revision in before if revision in reference.name]


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 10))
def test_left_alone_it_comes_to_rest_and_then_writes_nothing(data: st.DataObject, length: int) -> None:
    simulation = Simulation()
    simulation.reconcile()
    for _ in range(length):
        shake(simulation, data)
    simulation.settle()
    before = copy.deepcopy((simulation.raw, simulation.objects))
    plan = simulation.step()
    assert simulation.raw == before[0]
    assert [name for name in simulation.objects if name not in before[1]] == []
    assert plan.events == ()
    assert plan.delete == ()


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 10))
def test_what_serves_in_the_end_is_what_the_spec_asks_for(data: st.DataObject, length: int) -> None:
    simulation = Simulation()
    simulation.reconcile()
    for _ in range(length):
        shake(simulation, data)
    simulation.broken.clear()
    simulation.silent.clear()
    if simulation.raw["spec"]["replicas"]["min"] == 0:
        simulation.change(replicas={"min": 1})  # with no engine nothing new can prove itself
    simulation.settle()
    spec, stable = simulation.world().spec, simulation.status.get("stable")
    if spec is None or spec.model.ref is None:
        return
    assert stable is not None
    made = simulation.world().recipes[stable["revision"]]
    assert (made.model, made.sampling) == (spec.model.ref, spec.sampling)
    assert made.image == (spec.image or OPERATOR.server_image)


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 8))
def test_the_same_facts_give_the_same_plan(data: st.DataObject, length: int) -> None:
    simulation = Simulation()
    simulation.reconcile()
    for _ in range(length):
        shake(simulation, data)
    assert decide_service(simulation.world(), simulation.now) == decide_service(simulation.world(), simulation.now)


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 12))
def test_every_status_is_one_that_the_api_server_keeps_whole(data: st.DataObject, length: int) -> None:
    simulation = Simulation()
    schema = schema_of("DiffusionService")["properties"]["status"]
    simulation.reconcile()
    for _ in range(length):
        shake(simulation, data)
        assert list(misfits(schema, simulation.status, "status")) == []
        names = [condition["type"] for condition in simulation.status["conditions"]]
        assert sorted(names) in (["Available", "Ready", "Reconciling", "Stalled"], [*ALL_CONDITIONS])
        true = [c["type"] for c in simulation.status["conditions"] if c["status"] == "True"]
        assert len([name for name in true if name not in ("Available", "KeysInvalid")]) == 1


@EXAMPLES
@given(data=st.data(), length=st.integers(1, 10))
def test_a_crash_after_the_status_is_stored_changes_no_end(data: st.DataObject, length: int) -> None:
    """An operator that stores the status and dies before deletions ends where one that lives ends."""
    simulation = Simulation()
    simulation.reconcile()
    for _ in range(length):
        shake(simulation, data)
    simulation.worlds.clear()
    simulation.plans.clear()
    crashed = copy.deepcopy(simulation)
    crashed.run_controllers()
    plan = decide_service(crashed.world(), crashed.now)
    crashed.raw["status"] = copy.deepcopy(dict(plan.status or {}))
    simulation.settle()
    crashed.settle()
    assert sorted(crashed.objects) == sorted(simulation.objects)
    assert crashed.status.get("stable", {}).get("revision") == simulation.status.get("stable", {}).get("revision")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in _places(child, (*path, key)))]


@EXAMPLES
@given(data=st.data())
def test_nothing_that_is_stored_makes_it_raise(data: st.DataObject) -> None:
    """Any value anywhere in the custom resource or its children is answered with a plan."""
    simulation = Simulation()
    simulation.reconcile()
    simulation.step()
    documents = [simulation.raw, *simulation.objects.values()]
    for _ in range(data.draw(st.integers(1, 4))):
        document = data.draw(st.sampled_from(documents))
        places = [place for place in _places(document) if place and place[0] != "kind"]
        *parents, last = data.draw(st.sampled_from(places))
        target = document
        for key in parents:
            target = target[key]
        target[last] = data.draw(JSON)
    references(simulation.raw)
    plan = decide_service(simulation.world(), simulation.now)
    assert plan.status is not None


PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NEAR = {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}
FIELDS: dict[str, dict[str, Any]] = {
    "model.ref": {"model": {"ref": model("b")}},
    "model.fromTraining": {"model": {"fromTraining": {"name": "run"}}},
    "image": {"image": "server:2"},
    "resources.requests": {"resources": {"requests": {"cpu": "1"}}},
    "resources.limits": {"resources": {"limits": {"cpu": "1"}}},
    "template.labels": {"template": {"labels": {"a": "b"}}},
    "template.annotations": {"template": {"annotations": {"a": "b"}}},
    "template.nodeSelector": {"template": {"nodeSelector": {"a": "b"}}},
    "template.tolerations": {"template": {"tolerations": [{"key": "a"}]}},
    "template.affinity": {"template": {"affinity": {"podAffinity": {PREFERRED: [NEAR]}}}},
    "template.topologySpreadConstraints": {"template": {"topologySpreadConstraints": [{"topologyKey": "zone"}]}},
    "template.env": {"template": {"env": [{"name": "A", "value": "b"}]}},
    "template.volumes": {"template": {"volumes": [{"name": "a", "emptyDir": {}}]}},
    "template.volumeMounts": {
        "template": {"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": [{"name": "a", "mountPath": "/a"}]}
    },
    "template.imagePullSecrets": {"template": {"imagePullSecrets": [{"name": "a"}]}},
    "template.runtimeClassName": {"template": {"runtimeClassName": "a"}},
    "template.schedulerName": {"template": {"schedulerName": "a"}},
    "sampling.sampler": {"sampling": {"sampler": "Euler"}},
    "sampling.guidanceScale": {"sampling": {"guidanceScale": 7.5}},
    "sampling.classes": {"sampling": {"classes": [{"name": "other", "steps": 3}]}},
    "batching.maxBatch": {"batching": {"maxBatch": 3}},
    "replicas.min": {"replicas": {"min": 7}},
    "auth.keysRef": {"auth": {"keysRef": {"name": "others"}}},
}


def _made_from(change: dict[str, Any]) -> str:
    simulation = Simulation()
    simulation.change(**change)
    plan = simulation.reconcile()
    assert simulation.condition("Stalled")[1] != "InvalidSpec", simulation.status["message"]
    children = [manifest for manifest in plan.apply if manifest["kind"] in ("Deployment", "ConfigMap")]
    status = {key: value for key, value in (plan.status or {}).items() if key != "observedGeneration"}
    return json.dumps([children, status.get("message")], sort_keys=True)


@pytest.mark.parametrize("change", FIELDS.values(), ids=FIELDS)
def test_no_field_is_silent(change: dict[str, Any]) -> None:
    assert _made_from(change) != _made_from({})


def test_no_field_is_left_out_of_the_list() -> None:
    named: set[str] = set()
    for name, field in DiffusionServiceSpec.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        alias = field.alias or name
        named |= {f"{alias}.{one.alias or key}" for key, one in inner.items()} if inner else {alias}
    assert named == set(FIELDS)


def test_an_empty_custom_resource_gets_an_answer() -> None:
    world = observe_service(Snapshot({}, OPERATOR), {})
    assert references({}) == ()
    assert decide_service(world, Simulation().now).status is not None
