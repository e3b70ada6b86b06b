"""When the objects of a revision that is not wanted any more may go, while routers do not come up."""

import pytest

from service_simulation import Simulation, container_ended, container_waiting, model

ROUTERS_BROKEN = {"router": container_waiting("ErrImagePull")}


@pytest.mark.parametrize("starts", [True, False], ids=["engines that start", "engines that do not"])
def test_before_any_router_has_been_up_edits_leave_no_revision_behind(starts: bool) -> None:
    simulation = Simulation(broken=dict(ROUTERS_BROKEN))
    simulation.step()
    for router in simulation.routers():
        simulation.silence(router)
    simulation.settle()
    for digit in "bcdef":
        simulation.change(model={"ref": model(digit)})
        simulation.reconcile()
        if not starts:
            simulation.broken[simulation.status["candidate"]["revision"]] = container_ended(1)
        simulation.settle()
    found = simulation.status["stable" if starts else "candidate"]["revision"]
    kept = {found} if starts else {simulation.status["stable"]["revision"], found}
    assert set(simulation.deployments()) == kept
    assert {one.revision for one in simulation.world().objects} == kept
    simulation.broken.clear()
    simulation.silent.clear()
    simulation.deaf.clear()
    simulation.settle()
    assert simulation.condition("Ready")[0] == "True"


def test_routers_that_were_up_once_are_asked_before_a_revision_goes() -> None:
    simulation = Simulation()
    simulation.settle()
    old = simulation.status["stable"]["revision"]
    simulation.broken |= ROUTERS_BROKEN
    for router in simulation.routers():
        simulation.silence(router)
    simulation.change(model={"ref": model("b")})
    simulation.settle()
    assert simulation.status["stable"]["revision"] != old
    assert old in simulation.deployments(), "they may come back and still send there"
