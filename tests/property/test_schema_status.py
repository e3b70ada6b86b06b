"""Every status that a training's plan writes is one that the API server keeps whole.

A field that the CRD does not declare would be dropped, found missing in the next pass, and written again for ever; a
value that it refuses would stop every later status.
"""

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custom_resource_tables import schema_of
from diffusion_operator.loop.clock import SystemClock
from diffusion_operator.observe.snapshot import Snapshot
from diffusion_operator.plan.training_kind import TRAINING
from schema_comparison import misfits
from training_disturbances import announce, crash, edit, evict, vanish
from training_simulator import Simulator
from world_builders import OPERATOR, TWO_POOLS, spec_with

SCHEMA = schema_of("DiffusionTraining")["properties"]["status"]

EVENTS: dict[str, Callable[[Simulator, int], None]] = {
    "time": lambda world, number: world.run(1 + number % 4),
    "crash": crash,
    "notice": announce,
    "loss": vanish,
    "eviction": evict,
    "pause": lambda world, _: edit(world, suspend=True),
    "resumption": lambda world, _: edit(world, suspend=False),
    "another image": lambda world, number: edit(world, workers__image=f"trainer:{number}"),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.integers(0, 6)), max_size=8))
def test_no_status_loses_a_field_or_is_refused(history: list[tuple[str, int]]) -> None:
    world = Simulator(spec_with(TWO_POOLS, publish={"claim": {"size": "1Gi"}}, failurePolicy={"maxRestarts": 3}))
    world.run(3)
    for name, number in history:
        EVENTS[name](world, number)
        world.run(2)
    edit(world, suspend=False)
    world.run(20)
    for status in world.statuses:
        assert list(misfits(SCHEMA, status, "status")) == []


def test_the_status_of_a_refused_spec_is_kept_whole_too() -> None:
    raw = {"metadata": {"name": "a", "namespace": "b", "uid": "c", "generation": 1}, "spec": {"workers": {"min": 0}}}
    plan = TRAINING.decide(TRAINING.observe(Snapshot(raw, OPERATOR), {}), SystemClock().now())
    assert plan.status is not None
    assert list(misfits(SCHEMA, plan.status, "status")) == []
