"""DiffusionTraining.spec: what is read, what is filled in, and what is refused with which words."""

from typing import Any

import pytest

from diffusion_operator.api.errors import SpecInvalid
from diffusion_operator.api.training_spec import parse_training
from world_builders import MINIMAL, TWO_POOLS, custom_resource, spec_with

DIGEST = "sha256:" + "a" * 64


def test_a_minimal_spec_has_the_defaults_of_the_crd() -> None:
    spec = parse_training(custom_resource(MINIMAL)).spec
    assert (spec.workers.min, spec.workers.max, spec.workers.processes_per_worker) == (1, 1, 1)
    assert spec.checkpoint.on_preemption
    assert spec.checkpoint.retain.last == 3
    assert spec.failure_policy.max_restarts == 10
    assert not spec.suspend
    assert spec.publish is None


def test_the_custom_resource_is_known_by_name_namespace_uid_and_generation() -> None:
    parsed = parse_training(custom_resource(MINIMAL, generation=4))
    assert (parsed.name, parsed.namespace, parsed.uid, parsed.generation) == ("digits", "team", "cr-uid", 4)


def test_without_pools_all_workers_are_one_on_demand_pool() -> None:
    (pool,) = parse_training(custom_resource(spec_with(workers__max=3))).spec.effective_pools
    assert (pool.name, pool.capacity, pool.size) == ("base", "OnDemand", 3)


def test_pools_have_a_fixed_size_or_an_upper_one() -> None:
    base, spot = parse_training(custom_resource(TWO_POOLS)).spec.effective_pools
    assert (base.size, spot.size) == (1, 1)


@pytest.mark.parametrize(
    ("changes", "path", "why"),
    [
        ({"workers": {"min": 3, "max": 2}}, "spec.workers.min", "min must not be above max"),
        ({"unknown": 1}, "spec.unknown", "Extra inputs are not permitted"),
        ({"workers": {"maximum": 2}}, "spec.workers.maximum", "Extra inputs are not permitted"),
        ({"training": {"targetSteps": 0}}, "spec.training.targetSteps", "greater than or equal to 1"),
        ({"training": {"targetSteps": "many"}}, "spec.training.targetSteps", "valid integer"),
        ({"dataset": {"uri": "s3://bucket"}}, "spec.dataset.uri", "uri must be builtin://digits, or"),
        (
            {"dataset": {"uri": "file:///data/set#2", "digest": DIGEST}},
            "spec.dataset.uri",
            "uri must be builtin://digits, or",
        ),
        (
            {"dataset": {"uri": "file:///data/a.npz?v=2", "digest": DIGEST}},
            "spec.dataset.uri",
            "uri must be builtin://digits, or",
        ),
        ({"dataset": {"uri": "file:///data"}}, "spec.dataset.digest", "needs its digest"),
        ({"checkpoint": {"storage": {}}}, "spec.checkpoint.storage", "exactly one of claim and existingClaim"),
        ({"pools": [{"name": "a"}]}, "spec.pools[0].max", "exactly one of replicas and max"),
        ({"pools": [{"name": "a", "replicas": 2}]}, "spec.pools", "must add up to workers.max"),
        ({"pools": [{"name": "a", "max": 1}, {"name": "a", "max": 0}]}, "spec.pools", "a stands twice"),
        ({"publish": {"name": "m"}}, "spec.publish", "exactly one of claim and existingClaim"),
        (
            {"workers": {"max": 200, "processesPerWorker": 2}},
            "spec.training.globalBatchSize",
            "globalBatchSize must be",
        ),
        ({"model": {"conditioning": {"type": "Class"}}}, "spec.model.conditioning.classes", "classes goes with"),
        ({"diffusion": {"prediction": "Flow"}}, "spec.diffusion.prediction", "goes with schedule.type FlowMatching"),
    ],
)
def test_nonsense_is_refused_with_its_path(changes: dict[str, Any], path: str, why: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse_training(custom_resource(spec_with(**changes)))
    assert refused.value.path == path
    assert why in refused.value.why
    assert str(refused.value) == f"{path}: {refused.value.why}"


def test_a_spec_that_is_not_there_is_refused_and_not_a_crash() -> None:
    with pytest.raises(SpecInvalid, match="spec: Field required"):
        parse_training({"metadata": {"name": "x"}})


def test_a_file_dataset_with_a_digest_is_accepted() -> None:
    spec = spec_with(dataset={"uri": "file:///data/faces.npz", "digest": DIGEST})
    assert parse_training(custom_resource(spec)).spec.dataset.digest == DIGEST


def test_quantities_may_be_written_as_numbers() -> None:
    spec = spec_with(workers__resources={"limits": {"cpu": 2, "nvidia.com/gpu": 1}, "requests": {"memory": "1Gi"}})
    resources = parse_training(custom_resource(spec)).spec.workers.resources
    assert resources.limits == {"cpu": "2", "nvidia.com/gpu": "1"}


@pytest.mark.parametrize("quantity", ["lots", "1 Gi", "-1", True, "1Gib"])
def test_what_is_no_quantity_is_refused(quantity: object) -> None:
    with pytest.raises(SpecInvalid, match=r"spec\.workers\.resources\.limits\.cpu"):
        parse_training(custom_resource(spec_with(workers__resources={"limits": {"cpu": quantity}})))
