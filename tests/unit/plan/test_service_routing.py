"""Routers are judged by what they say: Ready is told, and an old revision goes, only after all have moved."""

from dataclasses import replace

from diffusion_contract.agent_messages import RouterReport
from service_simulation import Simulation, container_ended, model


def serving() -> Simulation:
    simulation = Simulation()
    simulation.reconcile()
    simulation.settle()
    return simulation


def promoted() -> tuple[Simulation, str, str]:
    """A service whose new revision was just promoted, while no router is heard of; old and new revision."""
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    for router in simulation.routers():
        simulation.silence(router)
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    simulation.step()
    new = simulation.status["stable"]["revision"]
    assert new != old
    return simulation, old, new


def test_an_old_revision_stays_while_routers_are_silent_however_long_that_is() -> None:
    simulation, old, new = promoted()
    for _ in range(3):
        simulation.step(3600)
    assert sorted(simulation.deployments()) == sorted([old, new])
    assert "revision" not in simulation.status["router"]
    assert simulation.condition("Ready")[:2] == ("False", "RoutersFollowing")
    for router in simulation.routers():
        assert router in simulation.condition("Ready")[2]


def test_an_old_revision_stays_until_the_last_router_has_left_it() -> None:
    simulation, old, _ = promoted()
    first, second = simulation.routers()
    simulation.silent.discard(first)
    simulation.deaf.discard(first)
    for _ in range(3):
        simulation.step(3600)
    assert old in simulation.deployments()
    assert second in simulation.condition("Ready")[2]
    assert first not in simulation.condition("Ready")[2]
    simulation.silent.clear()
    simulation.deaf.clear()
    simulation.settle()
    assert old not in simulation.deployments()
    assert simulation.condition("Ready")[0] == "True"


def test_what_a_new_operator_has_not_heard_yet_is_no_reason_to_delete() -> None:
    """The promotion was stored, and the operator died before it told anyone."""
    simulation, old, _ = promoted()
    simulation.reports.clear()
    simulation.now = simulation.now.replace(year=2027)
    assert simulation.reconcile().delete == ()
    assert old in simulation.deployments()


def test_the_proof_is_stored_before_anything_is_deleted_and_stays() -> None:
    simulation, old, new = promoted()
    simulation.silent.clear()
    simulation.deaf.clear()
    simulation.step()
    plan = simulation.step(3600)
    assert simulation.status["router"]["revision"] == new
    assert plan.delete == (), "the pass that finds the proof only stores it"
    record = dict(simulation.status["router"])
    for router in simulation.routers():
        simulation.silence(router)
    assert simulation.step().delete == (), "images are finished first"
    plan = simulation.step(3600)
    assert {old in reference.name for reference in plan.delete} == {True}
    assert simulation.status["router"] == record
    assert simulation.condition("Ready")[0] == "True", "silence takes nothing back"


def test_a_router_that_is_back_at_the_old_revision_holds_its_deletion_up() -> None:
    simulation, old, _ = promoted()
    before = dict(simulation.in_force)
    simulation.silent.clear()
    simulation.deaf.clear()
    simulation.step()
    simulation.step()
    assert simulation.status["router"]["revision"] != old
    simulation.in_force |= before
    simulation.told.clear()
    simulation.deaf |= set(simulation.routers())
    assert simulation.step(3600).delete == ()


def test_a_router_on_a_dead_machine_holds_up_neither_ready_nor_the_end_of_the_old_revision() -> None:
    simulation, old, new = promoted()
    dead, *_ = simulation.routers()
    simulation.silent.clear()
    simulation.deaf.clear()
    simulation.silence(dead)
    simulation.step()
    assert simulation.step().status is not None
    assert simulation.condition("Ready")[1] == "RoutersFollowing"
    assert dead in simulation.condition("Ready")[2]
    simulation.not_ready.add(dead)
    simulation.step()
    assert (simulation.condition("Ready")[0], simulation.status["router"]["revision"]) == ("True", new)
    plan = simulation.step(3600)
    assert {old in reference.name for reference in plan.delete} == {True}


def test_a_router_that_knows_no_engine_of_the_new_revision_is_not_there_yet() -> None:
    simulation, _, new = promoted()
    simulation.silent.clear()
    simulation.deaf.clear()
    simulation.broken[new] = container_ended(1)
    simulation.step()
    simulation.step()
    assert "revision" not in simulation.status["router"]


def test_the_configuration_of_routers_follows_the_stored_status() -> None:
    simulation, old, new = promoted()
    (config,) = [
        found for (kind, name), found in simulation.objects.items() if kind == "ConfigMap" and "router" in name
    ]
    assert old in config["data"]["router.json"]
    assert new not in config["data"]["router.json"]
    simulation.step()
    (config,) = [
        found for (kind, name), found in simulation.objects.items() if kind == "ConfigMap" and "router" in name
    ]
    assert new in config["data"]["router.json"]
    assert simulation.status["stable"]["since"] in config["data"]["router.json"]


def test_engines_that_no_router_has_found_are_neither_ready_nor_available() -> None:
    """After 0 replicas engines are ready before routers know: a request would get an error."""
    simulation = serving()
    simulation.change(replicas={"min": 0})
    simulation.settle()
    simulation.change(replicas={"min": 1})
    simulation.blind = True
    simulation.reconcile()
    simulation.step()
    simulation.step()
    for kind in ("Ready", "Available"):
        assert simulation.condition(kind)[:2] == ("False", "RoutersFollowing")
        assert all(router in simulation.condition(kind)[2] for router in simulation.routers())
    simulation.silent.update(simulation.routers())
    simulation.step()
    assert simulation.condition("Ready")[0] == "True", "silence is no evidence"
    simulation.silent.clear()
    simulation.blind = False
    simulation.step()
    simulation.step()
    assert simulation.condition("Ready")[0] == simulation.condition("Available")[0] == "True"


def test_a_promotion_that_routers_have_yet_to_follow_takes_no_availability_away() -> None:
    simulation, old, new = promoted()
    simulation.reports = {
        uid: replace(record, report=RouterReport(routed=(old,), ready_engines={old: 2, new: 0}))
        for uid, record in serving().reports.items()
    }
    simulation.reconcile()
    assert simulation.condition("Available")[0] == "True"


def test_without_engines_to_find_it_is_enough_that_routers_are_told() -> None:
    simulation = serving()
    simulation.change(replicas={"min": 0})
    simulation.settle()
    assert simulation.condition("Ready")[:2] == ("True", "ScaledToZero")


def test_with_no_engine_wanted_nothing_untried_takes_over() -> None:
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    simulation.change(replicas={"min": 0}, model={"ref": model("b")})
    simulation.settle()
    assert simulation.status["stable"]["revision"] == old
    new = simulation.status["candidate"]["revision"]
    status, reason, message = simulation.condition("Reconciling")
    assert (status, reason) == ("True", "CandidateUnproven")
    assert "set replicas.min to 1 or more" in message
    assert {one["spec"]["replicas"] for one in simulation.deployments().values()} == {0}
    simulation.change(replicas={"min": 1})
    simulation.settle()
    assert simulation.status["stable"]["revision"] == new
    simulation.change(replicas={"min": 0})
    simulation.settle()
    assert simulation.status["stable"]["revision"] == new
    assert simulation.condition("Ready")[:2] == ("True", "ScaledToZero")


def test_a_service_that_begins_with_no_engine_is_at_rest() -> None:
    simulation = Simulation()
    simulation.change(replicas={"min": 0})
    simulation.reconcile()
    simulation.settle()
    assert simulation.condition("Ready")[:2] == ("True", "ScaledToZero")


def test_a_lost_status_costs_nothing() -> None:
    simulation = serving()
    old = dict(simulation.status["stable"])
    routes = simulation.status["routes"]
    simulation.raw.pop("status")
    plan = simulation.reconcile()
    assert plan.delete == ()
    assert [event.reason for event in plan.events] == ["RevisionAdopted"]
    assert (simulation.status["stable"]["revision"], simulation.status["routes"]) == (old["revision"], routes)
    simulation.settle()
    assert simulation.condition("Ready")[0] == "True"


def test_a_status_lost_in_the_middle_of_a_rollout_keeps_the_revision_that_routers_use() -> None:
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    new = simulation.status["candidate"]["revision"]
    simulation.run_controllers()
    simulation.raw.pop("status")
    simulation.reconcile()
    assert simulation.status["stable"]["revision"] == old
    simulation.settle()
    assert simulation.status["stable"]["revision"] == new
    assert list(simulation.deployments()) == [new]


def test_a_status_lost_while_nothing_is_available_and_nobody_is_heard_deletes_nothing_and_tells_nothing() -> None:
    simulation = serving()
    old = simulation.status["stable"]["revision"]
    simulation.change(model={"ref": model("b")})
    simulation.broken[old] = container_ended(1)
    simulation.run_controllers()
    for router in simulation.routers():
        simulation.silent.add(router)
    simulation.reports.clear()
    simulation.raw.pop("status")
    plan = simulation.reconcile()
    assert (plan.delete, plan.instructions) == ((), {})
    assert simulation.step(3600).delete == ()
    assert old in simulation.deployments()
    simulation.broken.clear()
    simulation.silent.clear()
    simulation.settle()
    assert simulation.condition("Ready")[0] == "True"


def test_what_is_overtaken_before_anything_served_is_taken_away() -> None:
    simulation = Simulation()
    simulation.reconcile()
    first = simulation.status["candidate"]["revision"]
    simulation.broken[first] = container_ended(1)
    simulation.step()
    simulation.change(model={"ref": model("b")})
    simulation.reconcile()
    simulation.broken[simulation.status["candidate"]["revision"]] = container_ended(1)
    simulation.settle()
    assert list(simulation.deployments()) == [simulation.status["candidate"]["revision"]]


def test_a_stable_revision_whose_configuration_was_deleted_keeps_its_deployment_and_is_named() -> None:
    simulation = serving()
    old = simulation.start_broken(model("b"), container_ended(1))
    del simulation.objects[next(key for key in simulation.objects if key[0] == "ConfigMap" and old in key[1])]
    simulation.settle()
    assert old in simulation.deployments()
    assert f"revision {old} goes on serving, but its ConfigMap was deleted" in simulation.status["message"]
