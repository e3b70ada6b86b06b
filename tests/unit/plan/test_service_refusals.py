"""What the API server refuses is told in the conditions of a service, as long as it does."""

from diffusion_operator.observe.snapshot import Refusal
from service_simulation import Simulation


def test_a_write_that_the_server_refuses_is_told() -> None:
    simulation = Simulation()
    simulation.reconcile()
    words = "exceeded quota: services, requested: count/services=1"
    simulation.refusals = (Refusal("Service", "digits-router", 403, words), Refusal("ConfigMap", "b", 403, "no"))
    simulation.reconcile()
    status, reason, message = simulation.condition("Stalled")
    assert (status, reason) == ("True", "QuotaExceeded")
    assert (
        message == f"the API server refuses the Service digits-router: {words}; raise the ResourceQuota or ask for less"
    )
    simulation.refusals = simulation.refusals[1:]
    simulation.reconcile()
    assert simulation.condition("Stalled")[1] == "WriteRefused"


def test_what_the_operator_may_not_read_is_told_and_is_over_when_it_may() -> None:
    simulation = Simulation()
    simulation.reconcile()
    simulation.refusals = (Refusal("Secret", "keys", 403, "secrets is forbidden", is_read=True),)
    simulation.reconcile()
    said = "the operator may not read the Secret keys: secrets is forbidden"
    assert simulation.condition("Stalled") == ("True", "ReadRefused", said)
    simulation.refusals = ()
    simulation.reconcile()
    assert simulation.condition("Stalled")[0] == "False"


def test_an_operator_that_has_just_started_takes_the_stored_word_for_a_refusal() -> None:
    simulation = Simulation()
    simulation.refusals = (Refusal("ConfigMap", "b", 403, "no"),)
    simulation.reconcile()
    stored = simulation.status
    simulation.refusals, simulation.has_applied = (), False
    simulation.reconcile()
    assert simulation.status == stored
    simulation.has_applied = True
    simulation.reconcile()
    assert simulation.condition("Stalled")[0] == "False"
