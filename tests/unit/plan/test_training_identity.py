"""A spec that describes another run than the one that was begun is refused, and the run goes on as it was."""

import json
from typing import Any

import pytest

from decided_trainings import BOTH, COMMITTED, PAIR, conditions, decided, kstatus, said, status_of
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.children.job import worker_hash
from diffusion_operator.children.run_config_map import run_config_map
from diffusion_operator.plan.plan import Plan
from world_builders import TWO_POOLS, claim, custom_resource, pod, spec_with, training_status

BEGUN = spec_with(TWO_POOLS, model__denoiser__config={"layers": 1})
RENAMED = spec_with(TWO_POOLS, model__denoiser__config={"depth": 1})
REFUSAL = (
    "spec.model.denoiser.config: what a training learns cannot be changed once it exists: put back the keys and values "
    "that it was begun with, or create another DiffusionTraining"
)

DONE = {"checkpoint": {"lastCommitted": COMMITTED}}


def run_of(spec: dict[str, Any]) -> Any:
    """The ConfigMap that the pods of a run with this spec read."""
    return run_config_map(parse_training(custom_resource(spec)), "PEM")


def begun() -> Any:
    """A stored status of a run that was begun with BEGUN and trains with two workers."""
    first = decided(spec=BEGUN).status
    assert first is not None
    return training_status("a", "b", identity=first["identity"])


def after(spec: dict[str, Any], **facts: Any) -> Plan:
    children = (claim("digits-checkpoints"), run_of(BEGUN), *PAIR)
    return decided(*children, **({"spec": spec, "status": begun(), "records": BOTH} | facts))


def told(plan: Plan) -> Any:
    """What the pods will read after this plan."""
    (document,) = [one["data"]["run.json"] for one in plan.apply if one["kind"] == "ConfigMap"]
    return json.loads(document)


def test_a_renamed_key_of_the_networks_arguments_is_refused_and_the_run_goes_on() -> None:
    plan = after(RENAMED)
    assert said(plan) == (
        "Running",
        "InvalidSpec",
        f"{REFUSAL}; meanwhile 2 of 2 workers train as generation 1",
    )
    assert kstatus(plan) == "Failed"
    assert told(plan)["model"]["denoiser"]["config"] == {"layers": 1}
    assert plan.instructions.keys() == {"a", "b"}
    assert [(event.reason, event.type) for event in plan.events] == [("InvalidSpec", "Warning")]


def test_the_refusal_is_said_once_and_is_over_when_the_key_is_back() -> None:
    first = after(RENAMED)
    again = after(RENAMED, status=first.status)
    assert (again.status, again.events) == (first.status, ())
    healed = after(BEGUN, status=first.status)
    assert said(healed) == ("Running", "Training", "2 of 2 workers train as generation 1")
    assert conditions(healed)["Stalled"]["status"] == "False"


def test_nothing_of_what_the_pods_read_is_taken_from_a_spec_that_is_refused() -> None:
    edited = spec_with(RENAMED, training__targetSteps=500, checkpoint__interval={"seconds": 9})
    assert told(after(edited)) == json.loads(run_of(BEGUN)["data"]["run.json"])
    assert status_of(after(edited))["progress"]["targetSteps"] == 20


def test_a_refused_spec_does_not_keep_a_run_from_regrouping_or_ending() -> None:
    alone = (*PAIR[:3], pod("b", pool="spot", node="n2", exit_code=137))
    plan = decided(run_of(BEGUN), *alone, spec=RENAMED, status=begun(), records=BOTH)
    assert plan.status is not None
    assert (plan.status["generation"], plan.status["identity"]) == (2, begun()["identity"])
    ended = decided(run_of(BEGUN), *PAIR[:2], pod("a", exit_code=0), spec=RENAMED, status=begun() | DONE)
    assert said(ended) == ("Succeeded", "TargetReached", "step 20 is committed")


@pytest.mark.parametrize("children", [(), (run_of(RENAMED),), ({"kind": "ConfigMap", "data": {"run.json": "{"}},)])
def test_where_nothing_proves_what_the_run_was_begun_with_nothing_is_touched(children: tuple[Any, ...]) -> None:
    plan = decided(*children, *PAIR, spec=RENAMED, status=begun(), records=BOTH)
    assert said(plan) == ("Running", "InvalidSpec", REFUSAL)
    assert (plan.apply, plan.delete) == ((), ())
    assert plan.instructions.keys() == {"a", "b"}


def test_a_run_from_before_identities_were_stored_takes_that_of_its_spec() -> None:
    plan = decided(run_of(BEGUN), *PAIR, spec=RENAMED, status=training_status("a", "b"), records=BOTH)
    assert said(plan)[1] == "Training"
    assert plan.status is not None
    assert plan.status["identity"] != begun()["identity"]


@pytest.mark.parametrize(
    "written_out",
    [
        {"model__denoiser__type": "UNet2DModel", "model__conditioning": {"type": "None"}},
        {"diffusion__schedule": {"timesteps": 1000, "shift": 1}},
        {"training__seed": 0, "training__ema": {"decay": 0.999}},
    ],
)
def test_a_default_that_is_written_out_is_the_same_run(written_out: dict[str, Any]) -> None:
    assert said(after(spec_with(BEGUN, **written_out)))[1] == "Training"


@pytest.mark.parametrize(
    "written_out",
    [
        {"workers": {"min": 1, "max": 2, "processesPerWorker": 1}},
        {"workers__template": {"labels": {}, "env": [], "topologySpreadConstraints": []}},
        {"workers__resources": {"limits": {}}},
    ],
)
def test_a_default_that_is_written_out_makes_no_other_workers(written_out: dict[str, Any]) -> None:
    plain, explicit = (parse_training(custom_resource(s)) for s in (TWO_POOLS, spec_with(TWO_POOLS, **written_out)))
    for pool, same in zip(plain.spec.pools, explicit.spec.pools, strict=True):
        assert worker_hash(plain, pool) == worker_hash(explicit, same)
