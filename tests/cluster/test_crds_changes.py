"""What may be changed while a training runs or a service serves, and what the API server refuses to change."""

from collections.abc import Iterator
from typing import Any

import pytest

from custom_resource_tables import DIGEST, CustomResources, custom_resources, service, training
from diffusion_local.cluster import Cluster


@pytest.fixture(scope="module")
def resources(control_plane: Cluster) -> Iterator[CustomResources]:
    with custom_resources(control_plane) as client:
        yield client


FORBIDDEN_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "another network": ({"model": {"denoiser": {"type": "DiT"}}}, "model cannot be changed"),
    "other arguments of the network": ({"model": {"denoiser": {"config": {"layers": 2}}}}, "model cannot be changed"),
    "another schedule": ({"diffusion": {"schedule": {"type": "Cosine"}}}, "diffusion cannot be changed"),
    "another data set": ({"dataset": {"digest": DIGEST}}, "dataset cannot be changed"),
    "another seed": ({"training": {"seed": 1}}, "seed cannot be changed"),
    "another batch": ({"training": {"globalBatchSize": 128}}, "globalBatchSize cannot be changed"),
    "another learning rate": ({"training": {"optimizer": {"learningRate": 0.01}}}, "optimizer cannot be changed"),
    "another course of the learning rate": (
        {"training": {"learningRateSchedule": {"type": "Cosine"}}},
        "learningRateSchedule cannot be changed",
    ),
    "another average": ({"training": {"ema": {"decay": 0.9}}}, "ema cannot be changed"),
    "another precision": ({"training": {"precision": "BF16"}}, "precision cannot be changed"),
    "fewer steps": ({"training": {"targetSteps": 99}}, "targetSteps may only be raised"),
    "another volume": (
        {"checkpoint": {"storage": {"claim": None, "existingClaim": "other"}}},
        "checkpoint.storage cannot be changed",
    ),
    "another kind of volume": (
        {"checkpoint": {"storage": {"claim": {"storageClassName": "fast"}}}},
        "storageClassName and accessModes cannot be changed",
    ),
    "a smaller volume": ({"checkpoint": {"storage": {"claim": {"size": "512Mi"}}}}, "size may only be raised"),
    "to publish after all": ({"publish": {"claim": {"size": "1Gi"}}}, "publish cannot be changed"),
}


@pytest.mark.parametrize(("patch", "words"), FORBIDDEN_CHANGES.values(), ids=FORBIDDEN_CHANGES)
def test_what_a_run_is_made_of_cannot_be_changed(resources: CustomResources, patch: dict[str, Any], words: str) -> None:
    stored = resources.create(training(spec__model__denoiser__config={"layers": 1}))
    refused = resources.refusal_of_change(stored, patch)
    assert words in refused
    assert "create another DiffusionTraining" in refused or "raised" in refused


ALLOWED_CHANGES: dict[str, dict[str, Any]] = {
    "more steps": {"training": {"targetSteps": 1000}},
    "a larger volume": {"checkpoint": {"storage": {"claim": {"size": "1.5Gi"}}}},
    "more workers": {"workers": {"max": 4}},
    "more resources": {"workers": {"resources": {"limits": {"cpu": "2"}}}},
    "pools": {"workers": {"max": 4}, "pools": [{"name": "a", "replicas": 1}, {"name": "b", "max": 3}]},
    "another interval": {"checkpoint": {"interval": {"seconds": None, "steps": 10}}},
    "fewer checkpoints": {"checkpoint": {"retain": {"last": 2}}},
    "no save on preemption": {"checkpoint": {"onPreemption": False}},
    "fewer restarts": {"failurePolicy": {"maxRestarts": 0}},
    "a pause": {"suspend": True},
}


@pytest.mark.parametrize("patch", ALLOWED_CHANGES.values(), ids=ALLOWED_CHANGES)
def test_how_a_run_goes_on_can_be_changed(resources: CustomResources, patch: dict[str, Any]) -> None:
    assert resources.refusal_of_change(resources.create(training()), patch) == ""


SERVICE_CHANGES: dict[str, dict[str, Any]] = {
    "another model": {"model": {"ref": f"pvc://models/digits@sha256:{'f' * 64}"}},
    "a training instead": {"model": {"ref": None, "fromTraining": {"name": "digits"}}},
    "another sampler": {"sampling": {"sampler": "Euler", "guidanceScale": 2.5}},
    "more engines": {"replicas": {"min": 3}},
    "other keys": {"auth": {"keysRef": {"name": "others"}}},
}


@pytest.mark.parametrize("patch", SERVICE_CHANGES.values(), ids=SERVICE_CHANGES)
def test_everything_about_a_service_can_be_changed(resources: CustomResources, patch: dict[str, Any]) -> None:
    assert resources.refusal_of_change(resources.create(service()), patch) == ""


def test_publish_can_neither_be_taken_away_nor_changed(resources: CustomResources) -> None:
    stored = resources.create(training(spec__publish={"claim": {"size": "1Gi"}}))
    assert "publish cannot be changed" in resources.refusal_of_change(stored, {"publish": None})
    assert "publish cannot be changed" in resources.refusal_of_change(stored, {"publish": {"name": "other"}})
    assert "size may only be raised" in resources.refusal_of_change(stored, {"publish": {"claim": {"size": "1Mi"}}})
    assert resources.refusal_of_change(stored, {"publish": {"claim": {"size": "2Gi"}}}) == ""
    assert resources.refusal_of_change(stored, {"suspend": True}) == ""
