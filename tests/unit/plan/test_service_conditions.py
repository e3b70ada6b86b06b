"""Why a service is not ready, in the words that people read: each check once, and which one wins."""

from datetime import timedelta
from typing import Any

import pytest

from custom_resource_tables import service
from diffusion_contract.agent_messages import RouterInstruction
from diffusion_contract.api_key_hash import SHAPE
from diffusion_operator.plan.service import AT_REST_SECONDS, LOOK_AGAIN_SECONDS
from diffusion_operator.plan.timestamps import to_timestamp
from service_simulation import Simulation, container_waiting, model, stored

REFERENCE = model("d")


def from_training(**facts: Any) -> Simulation:
    simulation = Simulation(stored(service(spec__model={"fromTraining": {"name": "run"}})))
    if facts:
        simulation.referenced[("DiffusionTraining", "run")] = facts
    simulation.reconcile()
    return simulation


PUBLISHES = {"publish": {"claim": {"size": "1Gi"}}}
WAITING: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no training yet": ({}, "Reconciling", "WaitingForTraining", "run, which does not exist"),
    "a training that has not begun": (
        {"spec": PUBLISHES},
        "Reconciling",
        "WaitingForTraining",
        "run, which is Pending",
    ),
    "a training that runs": (
        {"spec": PUBLISHES, "status": {"phase": "Running"}},
        "Reconciling",
        "WaitingForTraining",
        "waits for DiffusionTraining run, which is Running",
    ),
    "a training whose target was raised while it published": (
        {"spec": PUBLISHES, "status": {"phase": "Running", "published": {"reference": REFERENCE}}},
        "Reconciling",
        "WaitingForTraining",
        "waits for DiffusionTraining run, which is Running",
    ),
    "a training that failed": (
        {"spec": PUBLISHES, "status": {"phase": "Failed", "message": "too many crashes"}},
        "Stalled",
        "TrainingFailed",
        "failed: too many crashes; correct it, or set model.ref",
    ),
    "a training that publishes nothing": (
        {"spec": {}, "status": {"phase": "Running"}},
        "Stalled",
        "NothingPublished",
        "has no spec.publish",
    ),
}


@pytest.mark.parametrize(("facts", "standing", "reason", "words"), WAITING.values(), ids=WAITING)
def test_a_service_waits_for_its_training(facts: dict[str, Any], standing: str, reason: str, words: str) -> None:
    simulation = from_training(**facts)
    status, said, message = simulation.condition(standing)
    assert (status, said) == ("True", reason)
    assert words in message
    assert not simulation.deployments()
    assert simulation.deployments("router"), "routers are up when the model comes"


def test_the_model_of_a_training_is_resolved_once() -> None:
    simulation = from_training(spec=PUBLISHES, status={"phase": "Succeeded", "published": {"reference": REFERENCE}})
    assert simulation.status["model"] == {"reference": REFERENCE, "training": "run"}
    assert next(event.reason for event in simulation.plans[-1].events) == "ModelResolved"
    simulation.referenced[("DiffusionTraining", "run")]["status"]["published"]["reference"] = model("e")
    simulation.settle()
    assert simulation.status["stable"]["model"] == REFERENCE
    del simulation.referenced[("DiffusionTraining", "run")]
    simulation.settle()
    assert simulation.status["stable"]["model"] == REFERENCE


def test_another_training_is_resolved_anew_while_the_old_model_serves() -> None:
    simulation = from_training(spec=PUBLISHES, status={"phase": "Succeeded", "published": {"reference": REFERENCE}})
    simulation.settle()
    simulation.change(model={"fromTraining": {"name": "next"}})
    simulation.settle()
    assert simulation.status["stable"]["model"] == REFERENCE
    assert "goes on serving" in simulation.status["message"]
    published = {"phase": "Succeeded", "published": {"reference": model("f")}}
    simulation.referenced[("DiffusionTraining", "next")] = {"spec": PUBLISHES, "status": published}
    simulation.settle()
    assert simulation.status["stable"]["model"] == model("f")


def test_a_missing_secret_is_told_with_the_remedy() -> None:
    simulation = Simulation()
    del simulation.referenced[("Secret", "digits-keys")]
    plan = simulation.reconcile()
    status, reason, message = simulation.condition("Stalled")
    assert (status, reason) == ("True", "KeysNotFound")
    assert "the Secret digits-keys of auth.keysRef does not exist: create it" in message
    assert plan.requeue_seconds is not None, "nobody tells us when a Secret appears"
    simulation.referenced[("Secret", "digits-keys")] = {"data": {}}
    simulation.reconcile()
    assert simulation.condition("Stalled")[1] == "KeysEmpty"
    simulation.referenced[("Secret", "digits-keys")] = {"data": {"me": SHAPE}}
    simulation.settle()
    assert simulation.condition("Ready")[0] == "True"


KEYS: dict[str, tuple[dict[str, Any] | None, str, str]] = {
    "no Secret": (None, "KeysNotFound", "the Secret digits-keys of auth.keysRef does not exist: create it"),
    "no entries": ({"data": {}}, "KeysEmpty", "the Secret digits-keys of auth.keysRef has no entries: fill it"),
    "no hashes": ({"data": {"me": ""}}, "Malformed", "of the Secret digits-keys of auth.keysRef, me let nobody in"),
}


@pytest.mark.parametrize(("secret", "reason", "words"), KEYS.values(), ids=KEYS)
def test_what_is_wrong_with_the_keys_is_told_beside_every_other_reason(
    secret: dict[str, Any] | None, reason: str, words: str
) -> None:
    simulation = from_training(spec=PUBLISHES, status={"phase": "Failed", "message": "too many crashes"})
    assert "KeysInvalid" not in {condition["type"] for condition in simulation.status["conditions"]}
    del simulation.referenced[("Secret", "digits-keys")]
    if secret is not None:
        simulation.referenced[("Secret", "digits-keys")] = secret
    plan = simulation.reconcile()
    assert simulation.condition("Stalled")[1] == "TrainingFailed"
    status, why, message = simulation.condition("KeysInvalid")
    assert (status, why) == ("True", reason)
    assert message.startswith(words)
    assert plan.requeue_seconds == LOOK_AGAIN_SECONDS, "nobody tells us when it is mended"


def test_entries_that_let_nobody_in_are_named() -> None:
    simulation = Simulation()
    assert simulation.settle().requeue_seconds == AT_REST_SECONDS, "nobody tells us when a Secret is broken"
    simulation.referenced[("Secret", "digits-keys")] = {"data": {"me": SHAPE, "plain": "", "upper": ""}}
    plan = simulation.reconcile()
    status, _, message = simulation.condition("KeysInvalid")
    assert status == "True"
    assert "plain, upper let nobody in: write sha256:HEX" in message
    assert simulation.condition("Ready")[0] == "True", "who has a good key is let in"
    assert plan.requeue_seconds == LOOK_AGAIN_SECONDS, "nobody tells us when it is mended"
    simulation.referenced[("Secret", "digits-keys")] = {"data": {f"key-{number}": "" for number in range(9)}}
    simulation.reconcile()
    assert simulation.condition("Stalled")[:2] == ("True", "KeysInvalid")
    assert "key-4 and 4 more let nobody in" in simulation.status["message"]
    simulation.referenced[("Secret", "digits-keys")] = {"data": {"me": SHAPE}}
    simulation.reconcile()
    assert simulation.condition("Ready")[0] == "True"
    assert "KeysInvalid" not in {condition["type"] for condition in simulation.status["conditions"]}


def test_what_is_refused_is_told_before_what_is_waited_for() -> None:
    simulation = from_training(spec=PUBLISHES, status={"phase": "Running"})
    simulation.run_controllers()
    (routers,) = simulation.deployments("router").values()
    words = "exceeded quota: none"
    refused = f'pods "digits-x7k2p" is forbidden: {words}'
    routers["status"] = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": refused}]}
    for key in [key for key in simulation.objects if key[0] == "Pod"]:
        del simulation.objects[key]
    simulation.reconcile()
    status, reason, message = simulation.condition("Stalled")
    assert (status, reason) == ("True", "QuotaExceeded")
    assert message.endswith(f": {words}; raise the ResourceQuota or ask for less"), (
        "without the name of a pod, which is another one in each try"
    )


def test_a_missing_claim_is_told_with_the_remedy() -> None:
    simulation = Simulation()
    del simulation.referenced[("PersistentVolumeClaim", "models")]
    plan = simulation.reconcile()
    status, reason, message = simulation.condition("Stalled")
    assert (status, reason) == ("True", "ModelClaimNotFound")
    assert "the claim models of the model does not exist" in message
    assert plan.requeue_seconds is not None


def test_a_spec_that_cannot_be_read_changes_nothing() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.settle()
    before = dict(simulation.status["stable"])
    simulation.raw["spec"]["sampling"]["classes"] = [{"name": "Bad Name", "steps": 1}]
    plan = simulation.reconcile()
    assert plan.apply == ()
    assert plan.delete == ()
    status, reason, message = simulation.condition("Stalled")
    assert (status, reason) == ("True", "InvalidSpec")
    assert message.startswith("spec.sampling.classes[0].name: ")
    assert simulation.status["stable"] == before
    assert simulation.condition("Available")[0] == "True"
    for instruction in plan.instructions.values():
        assert isinstance(instruction, RouterInstruction)
        assert instruction.routes


def test_routers_that_cannot_start_are_told() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.broken["router"] = container_waiting("ErrImagePull")
    simulation.settle()
    status, reason, message = simulation.condition("Stalled")
    assert (status, reason) == ("True", "ImagePullFailed")
    assert message.startswith("the routers cannot start")
    assert simulation.condition("Available")[:2] == ("False", "NoRouterReady")


def test_engines_that_fall_ill_later_are_told() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.settle()
    simulation.broken[simulation.status["stable"]["revision"]] = container_waiting(
        "CreateContainerConfigError", "no key"
    )
    simulation.settle()
    assert simulation.condition("Stalled")[:2] == ("True", "ContainerNotStarted")
    assert simulation.condition("Available")[:2] == ("False", "NoEngineReady")


def test_a_quota_of_zero_is_told_in_the_servers_words() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.run_controllers()
    (deployment,) = simulation.deployments().values()
    deployment["status"] = {
        "observedGeneration": deployment["metadata"]["generation"],
        "conditions": [
            {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota: none'}
        ],
    }
    for key in [key for key in simulation.objects if key[0] == "Pod" and "engine" in key[1]]:
        del simulation.objects[key]
    simulation.reconcile()
    status, reason, message = simulation.condition("Stalled")
    assert (status, reason) == ("True", "QuotaExceeded")
    assert "exceeded quota: none" in message


def test_a_pod_that_finds_no_node_is_told() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.broken[simulation.status["candidate"]["revision"]] = {"name": "engine", "ready": False}
    simulation.run_controllers()
    for key, pod in simulation.objects.items():
        if key[0] == "Pod" and "engine" in key[1]:
            sentence = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
            pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": sentence}]
    simulation.reconcile()
    stored = simulation.condition("Reconciling")[2]
    assert "0/2 nodes" in stored
    for key, pod in simulation.objects.items():
        if key[0] == "Pod" and "engine" in key[1]:
            pod["status"]["conditions"][0]["message"] = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    simulation.reconcile()
    assert simulation.condition("Reconciling")[2] == stored, "who waits is not written each time that nodes are counted"


def test_transition_times_stay_where_nothing_turned() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.settle()
    before = {c["type"]: c["lastTransitionTime"] for c in simulation.status["conditions"]}
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    after = {c["type"]: c["lastTransitionTime"] for c in simulation.status["conditions"]}
    assert after["Stalled"] == before["Stalled"]
    assert after["Available"] == before["Available"]
    assert after["Ready"] != before["Ready"]
    assert {c["observedGeneration"] for c in simulation.status["conditions"]} == {2}


def test_an_engine_whose_container_is_not_made_for_long_is_said_with_what_its_volumes_need() -> None:
    simulation = Simulation()
    volume = {"name": "c", "configMap": {"name": "settings"}}
    simulation.change(template={"volumes": [volume]})
    simulation.reconcile()
    simulation.broken[simulation.status["candidate"]["revision"]] = container_waiting("ContainerCreating")
    simulation.step()
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": to_timestamp(simulation.now)}
    for item in simulation.objects.values():
        if item["kind"] == "Pod":
            item["status"]["conditions"] = [placed]
    assert simulation.reconcile().requeue_seconds == pytest.approx(60)
    assert "not made yet" not in simulation.status["message"]
    simulation.now += timedelta(seconds=60)
    simulation.reconcile()
    assert "(ConfigMap settings must exist); `kubectl describe pod " in simulation.status["message"]
    assert simulation.condition("Stalled")[0] == "False"
