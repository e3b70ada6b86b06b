"""From raw objects to facts about a DiffusionService."""

import json

from custom_resource_tables import service
from diffusion_operator.observe.service_world import references
from diffusion_operator.observe.snapshot import Reference
from service_simulation import Simulation, model, stored


def test_it_asks_for_the_secret_the_claim_and_the_training() -> None:
    raw = stored(service(spec__model={"fromTraining": {"name": "run"}}))
    raw["status"] = {"model": {"reference": model("a", claim="old")}}
    assert references(raw) == (
        Reference("v1", "Secret", "default", "digits-keys"),
        Reference("v1", "PersistentVolumeClaim", "default", "old"),
        Reference("diffusion.dev/v1alpha1", "DiffusionTraining", "default", "run"),
    )


def test_a_reference_that_is_none_asks_for_nothing() -> None:
    raw = stored(service(spec__model={"ref": "oci://elsewhere"}))
    assert [reference.kind for reference in references(raw)] == ["Secret"]


def test_a_recipe_that_was_tampered_with_is_no_evidence() -> None:
    simulation = Simulation()
    simulation.reconcile()
    revision = simulation.status["candidate"]["revision"]
    assert revision in simulation.world().recipes
    config = next(one for (kind, name), one in simulation.objects.items() if kind == "ConfigMap" and revision in name)
    recipe = json.loads(config["data"]["revision.json"])
    config["data"]["revision.json"] = json.dumps({**recipe, "image": "evil:1"})
    assert revision not in simulation.world().recipes
    config["data"]["revision.json"] = "{"
    assert revision not in simulation.world().recipes


def test_routers_that_have_ended_are_told_nothing() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.run_controllers()
    assert len(simulation.world().routers) == 2
    for (kind, name), pod in simulation.objects.items():
        if kind == "Pod" and "router" in name:
            pod["status"]["phase"] = "Failed"
    assert simulation.world().routers == ()


def test_what_nobody_answered_is_unknown_and_not_missing() -> None:
    simulation = Simulation()
    world = simulation.world()
    assert world.keys_found is True
    assert world.claims == {"models": True}
    simulation.raw["spec"]["auth"] = {}
    assert simulation.world().keys_found is None


def test_a_deployment_on_its_way_out_is_no_workload() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.run_controllers()
    (deployment,) = simulation.deployments().values()
    deployment["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world = simulation.world()
    assert world.engines == {}
    assert ("Deployment", deployment["metadata"]["name"]) not in {(one.kind, one.name) for one in world.objects}
