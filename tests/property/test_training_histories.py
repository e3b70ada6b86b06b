"""Thousands of short histories of a DiffusionTraining: whatever happens, the promises hold at every step."""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulated_pods import NO_IMAGE
from training_disturbances import announce, crash, edit, evict, orphan, raise_target, refuse, turn_clock, vanish
from training_simulator import Simulator
from world_builders import TWO_POOLS, spec_with

Action = tuple[str, int]

DISTURBANCES: dict[str, Callable[[Simulator, int], None]] = {
    "quiet": lambda world, number: world.run(1 + number % 4),
    "crash": crash,
    "sigkill": lambda world, number: crash(world, number, 137),
    "announce": announce,
    "vanish": vanish,
    "evict": evict,
    "orphan": orphan,
    "refuse": refuse,
    "raise target": raise_target,
    "turn clock": turn_clock,
    "kill operator": lambda world, number: setattr(world, "deaths", number),
    "suspend": lambda world, _: edit(world, suspend=True),
    "resume": lambda world, _: edit(world, suspend=False),
    "shrink": lambda world, _: edit(world, workers__min=1, workers__max=1, pools=[{"name": "base", "replicas": 1}]),
    "grow": lambda world, _: edit(world, workers__max=2, pools=TWO_POOLS["pools"]),
    "other image": lambda world, number: edit(world, workers__image=f"trainer:{number}"),
    "no such image": lambda world, number: edit(world, workers__image=f"{NO_IMAGE}:{number}"),
}

actions = st.lists(st.tuples(st.sampled_from(sorted(DISTURBANCES)), st.integers(0, 6)), max_size=14)
specs = st.sampled_from(
    [
        spec_with(TWO_POOLS, failurePolicy={"maxRestarts": 1000}, publish={"claim": {"size": "1Gi"}}),
        spec_with(TWO_POOLS, failurePolicy={"maxRestarts": 1000}),
        spec_with(TWO_POOLS, failurePolicy={"maxRestarts": 1000}, workers={"min": 2, "max": 2}),
        spec_with(failurePolicy={"maxRestarts": 1000}),
    ]
)


def play(spec: dict[str, Any], history: list[Action]) -> Simulator:
    """Let `history` happen, then leave the world alone until it has come to rest."""
    world = Simulator(spec)
    if len(spec.get("pools", [])) < 2:
        history = [one for one in history if one[0] not in ("shrink", "grow")]
    world.run(3)
    for name, number in history:
        DISTURBANCES[name](world, number)
        world.round()
        check(world)
    edit(world, suspend=False, workers__image="trainer:0")
    for _ in range(400):
        if world.status["phase"] == "Succeeded":
            break
        world.round()
        check(world)
    return world


def check(world: Simulator) -> None:
    """What holds after every round."""
    attempts = {one.attempt for one in world.trainers.values() if one.generation}
    assert len(attempts) <= 1, "two attempts train at once"
    assert world.volume.writers == sorted(world.volume.writers), "an older attempt wrote after a newer one"


def counters(status: dict[str, Any]) -> tuple[int, ...]:
    return status["attempt"], status["generation"], status["restarts"]["counted"], status["restarts"]["disruptions"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs, actions)
def test_every_history_ends_well(spec: dict[str, Any], history: list[Action]) -> None:
    world = play(spec, history)
    assert world.status["phase"] == "Succeeded", world.status["message"]
    assert world.volume.committed is not None
    assert world.volume.committed.step >= world.spec["training"]["targetSteps"]
    if "publish" in spec:
        assert world.status["published"]["step"] >= world.spec["training"]["targetSteps"]
    for before, after in zip(world.statuses, world.statuses[1:], strict=False):
        assert all(old <= new for old, new in zip(counters(before), counters(after), strict=True))
        assert before["phase"] not in ("Succeeded", "Failed"), "a run that has ended goes on"
    counted = world.status["restarts"]["counted"]
    assert counted <= world.crashes, "a disruption was counted, or a crash twice"
    assert (counted > 0) == (world.crashes > 0), "a crash was not counted"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs, actions)
def test_a_run_that_has_ended_comes_to_rest(spec: dict[str, Any], history: list[Action]) -> None:
    world = play(spec, history)
    world.run(80)
    writes, status = world.writes, world.status
    world.run(20)
    assert (world.writes, world.status) == (writes, status)
    assert world.living() == []
