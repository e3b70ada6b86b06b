"""A new revision starts beside the old one, takes over when all of it is available, and never before."""

import json
from dataclasses import replace

import pytest

from diffusion_contract.agent_messages import RouterInstruction
from diffusion_contract.api_key_hash import SHAPE
from diffusion_operator.api.service_revision import RevisionSpec
from diffusion_operator.plan.service_routing import DRAIN_SECONDS
from service_simulation import Simulation, container_ended, container_waiting, model
from world_builders import OPERATOR


def deployment_generations(simulation: Simulation) -> dict[str, int]:
    found = simulation.objects.items()
    return {name: raw["metadata"]["generation"] for (kind, name), raw in found if kind == "Deployment"}


def serving() -> Simulation:
    simulation = Simulation()
    simulation.reconcile()
    simulation.settle()
    return simulation


def test_the_first_revision_serves_as_soon_as_all_its_pods_are_available() -> None:
    simulation = Simulation()
    first = simulation.reconcile()
    assert "stable" not in simulation.status
    assert "routes" not in simulation.status
    candidate = simulation.status["candidate"]["revision"]
    assert [event.reason for event in first.events] == ["RevisionStarting"]
    second = simulation.step()
    assert simulation.status["stable"]["revision"] == candidate
    assert "candidate" not in simulation.status
    assert [event.reason for event in second.events] == ["RevisionServing"]
    assert simulation.condition("Ready")[:2] == ("False", "RoutersFollowing")
    assert simulation.condition("Available")[:2] == ("False", "RoutersFollowing")
    simulation.step()
    assert simulation.condition("Ready")[:2] == ("True", "Serving")
    assert simulation.condition("Available")[0] == "True"


def test_everything_of_the_first_line_is_there() -> None:
    simulation = serving()
    revision = simulation.status["stable"]["revision"]
    kinds = sorted((kind, "router" in name) for kind, name in simulation.objects if kind != "Pod")
    wanted = ("ConfigMap", "Deployment", "PodDisruptionBudget", "Service")
    assert kinds == sorted((kind, router) for kind in wanted for router in (False, True))
    assert simulation.deployments()[revision]["spec"]["replicas"] == 2
    assert simulation.deployments("router")[""]["spec"]["replicas"] == 2
    assert simulation.status["url"].startswith("http://digits-router-")
    assert simulation.status["replicas"] == {"desired": 2, "stable": 2, "candidate": 0, "ready": 2, "display": "2/2"}


def test_a_new_model_starts_beside_the_old_one_and_takes_over() -> None:
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    assert simulation.status["stable"]["revision"] == old
    assert sorted(simulation.deployments()) == sorted([old, simulation.status["candidate"]["revision"]])
    assert [route["revision"] for route in simulation.status["routes"]] == [old]
    assert simulation.condition("Ready")[:2] == ("False", "RevisionStarting")
    assert simulation.condition("Available")[0] == "True"
    simulation.step()
    new = simulation.status["stable"]["revision"]
    assert new != old
    assert simulation.status["stable"]["shortDigest"] == "b" * 12
    assert simulation.condition("Available")[0] == "True", "one of the two answers"
    simulation.step()
    assert simulation.status["router"]["revision"] == new
    assert old in simulation.deployments(), "the old revision finishes its images first"
    simulation.step(DRAIN_SECONDS + 1)
    simulation.step()
    assert list(simulation.deployments()) == [new]
    assert not [name for kind, name in simulation.objects if old in name and kind != "Pod"]


def test_routers_are_told_what_the_status_says() -> None:
    simulation = serving()
    plan = simulation.step()
    assert len(plan.instructions) == 2
    for instruction in plan.instructions.values():
        assert isinstance(instruction, RouterInstruction)
        assert [route.to_wire() for route in instruction.routes] == simulation.status["routes"]
    (route,) = simulation.status["routes"]
    assert route["host"] == f"digits-engine-{route['revision']}-{route['host'].split('-')[-1]}"
    assert route["host"].endswith(".default.svc")
    assert (route["port"], route["weight"]) == (8000, 100)


TROUBLES = {
    "an image that does not exist": (
        container_waiting("ImagePullBackOff"),
        "ImagePullFailed",
        "correct its name in spec.image",
    ),
    "a model with a flipped byte": (
        container_ended(
            64, json.dumps({"reason": "ModelDigestMismatch", "message": "unet: other bytes", "path": "spec.model"})
        ),
        "ModelDigestMismatch",
        "spec.model: unet: other bytes",
    ),
    "a refusal without words": (container_ended(64), "ConfigurationRefused", "exit code 64"),
    "a crash loop": (container_ended(1), "CrashLoop", "exit code 1"),
    "a crash that says why": (
        container_ended(1, json.dumps({"reason": "AcceleratorUnusable", "message": "this pod has nvidia0, but"})),
        "AcceleratorUnusable",
        "this pod has nvidia0, but",
    ),
    "too little memory": (
        container_ended(137, reason="OOMKilled"),
        "CrashLoop",
        "OOMKilled: it uses more memory than its limit, so raise spec.resources.limits.memory",
    ),
    "an image without the command": (
        container_ended(128, "exec: no such file", restarts=0, reason="StartError"),
        "ContainerNotStarted",
        "the container cannot be started: exec: no such file; correct its name in spec.image",
    ),
}


@pytest.mark.parametrize(("trouble", "reason", "words"), TROUBLES.values(), ids=TROUBLES)
def test_a_revision_that_cannot_start_leaves_the_old_one_serving(
    trouble: dict[str, object], reason: str, words: str
) -> None:
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    simulation.broken[simulation.status["candidate"]["revision"]] = trouble
    plan = simulation.step()
    assert [(event.type, event.reason) for event in plan.events] == [("Warning", reason)]
    simulation.settle()
    stalled, said, message = simulation.condition("Stalled")
    assert (stalled, said) == ("True", reason)
    assert words in message
    assert f"revision {old} goes on serving" in message
    assert simulation.condition("Available")[0] == "True"
    assert simulation.condition("Ready")[0] == "False"
    assert simulation.status["stable"]["revision"] == old
    assert simulation.deployments()[old]["spec"]["replicas"] == 2


def test_going_back_to_the_old_model_drops_the_candidate() -> None:
    simulation = serving()
    before = simulation.status["stable"]
    old_spec = dict(simulation.raw["spec"])
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    simulation.broken[simulation.status["candidate"]["revision"]] = container_ended(1)
    simulation.settle()
    simulation.change(**old_spec)
    simulation.settle()
    assert simulation.status["stable"] == before
    assert list(simulation.deployments()) == [before["revision"]]
    assert simulation.condition("Ready")[0] == "True"


def test_a_candidate_that_is_overtaken_is_taken_away() -> None:
    simulation = serving()
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    overtaken = simulation.status["candidate"]["revision"]
    simulation.broken[overtaken] = container_ended(1)
    simulation.step()
    simulation.change(model={"ref": model("c")})
    simulation.settle()
    assert simulation.status["stable"]["shortDigest"] == "c" * 12
    assert overtaken not in simulation.deployments()


def test_the_old_revision_is_repaired_and_scaled_while_its_successor_cannot_start() -> None:
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    simulation.broken[simulation.status["candidate"]["revision"]] = container_ended(1)
    simulation.step()
    before = simulation.deployments()[old]["spec"]["template"]
    del simulation.objects[("Deployment", simulation.deployments()[old]["metadata"]["name"])]
    simulation.change(replicas={"min": 3})
    simulation.settle()
    assert simulation.deployments()[old]["spec"]["replicas"] == 3
    assert simulation.deployments()[old]["spec"]["template"] == before


def test_scaling_makes_no_new_revision() -> None:
    simulation = serving()
    revision = simulation.status["stable"]["revision"]
    simulation.change(replicas={"min": 5})
    simulation.reconcile()
    assert simulation.condition("Ready")[:2] == ("False", "EnginesStarting")
    simulation.settle()
    assert simulation.status["stable"]["revision"] == revision
    assert simulation.status["replicas"]["display"] == "5/5"
    assert list(simulation.deployments()) == [revision]


def test_no_engine_is_a_state_like_any_other() -> None:
    simulation = serving()
    simulation.change(replicas={"min": 0})
    simulation.settle()
    assert simulation.condition("Ready")[:2] == ("True", "ScaledToZero")
    assert simulation.condition("Available")[:2] == ("False", "NoEngineReady")


CHANGES = {
    "the model": {"model": {"ref": model("b")}},
    "the image": {"image": "server:2"},
    "resources": {"resources": {"limits": {"cpu": "2"}}},
    "the template": {"template": {"labels": {"team": "vision"}}},
    "the sampler": {"sampling": {"sampler": "Euler"}},
    "guidance": {"sampling": {"guidanceScale": 3.0}},
    "classes": {"sampling": {"classes": [{"name": "final", "steps": 21}]}},
    "the batch": {"batching": {"maxBatch": 4}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_pixels_or_containers_makes_a_new_revision(change: dict[str, object]) -> None:
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    simulation.change(**change)
    simulation.settle()
    assert simulation.status["stable"]["revision"] != old


def test_other_keys_change_the_pods_and_not_the_revision() -> None:
    simulation = serving()
    revision = simulation.status["stable"]["revision"]
    simulation.referenced[("Secret", "others")] = {"data": {"you": SHAPE}}
    simulation.change(auth={"keysRef": {"name": "others"}})
    simulation.settle()
    assert simulation.status["stable"]["revision"] == revision
    for role in ("engine", "router"):
        for deployment in simulation.deployments(role).values():
            assert "others" in json.dumps(deployment["spec"]["template"]["spec"]["volumes"])


def test_an_upgrade_of_the_operator_restarts_nothing() -> None:
    simulation = serving()
    before = deployment_generations(simulation)
    simulation.operator = replace(OPERATOR, agent_ca="NEW", server_image="server:2", router_image="router:2")
    simulation.settle()
    after = deployment_generations(simulation)
    assert before == after
    simulation.change(model={"ref": model("b")})
    simulation.settle()
    assert simulation.status["stable"]["image"] == "server:2"
    assert simulation.status["router"]["image"] == "router:2"


def test_an_image_that_is_taken_out_of_the_spec_is_not_kept() -> None:
    simulation = serving()
    before = simulation.status["stable"]
    simulation.change(image="no/such:1")
    simulation.reconcile()
    simulation.broken[simulation.status["candidate"]["revision"]] = container_waiting("ErrImagePull")
    simulation.settle()
    simulation.change(image=None)
    simulation.settle()
    assert simulation.status["stable"] == before
    assert simulation.condition("Ready")[0] == "True"


def test_other_service_classes_reach_the_routers_by_new_pods() -> None:
    simulation = serving()
    before = simulation.deployments("router")[""]["spec"]["template"]["metadata"]["annotations"]
    simulation.change(sampling={"classes": [{"name": "fast", "steps": 4}]})
    simulation.reconcile()
    during = simulation.deployments("router")[""]["spec"]["template"]["metadata"]["annotations"]
    assert during == before, "routers follow the revision that serves, not the one that starts"
    simulation.settle()
    after = simulation.deployments("router")[""]["spec"]["template"]["metadata"]["annotations"]
    assert after != before


def test_a_revision_is_named_by_its_content() -> None:
    one = RevisionSpec(model=model("a"), image="server:1")
    assert one.digest == RevisionSpec.model_validate(one.to_wire()).digest
    assert len(one.digest) == 10
    assert one.digest != one.model_copy(update={"max_batch": 8}).digest
