"""DiffusionService.spec: what is read, and what is refused with which path."""

from typing import Any

import pytest

from custom_resource_tables import DIGEST, service
from diffusion_operator.api.errors import SpecInvalid
from diffusion_operator.api.service_spec import parse_service_spec


def test_the_smallest_spec_gets_every_default() -> None:
    spec = parse_service_spec(service())
    assert spec.model.ref == f"pvc://models/digits@{DIGEST}"
    assert [(one.name, one.steps) for one in spec.sampling.classes] == [("final", 20)]
    assert (spec.batching.max_batch, spec.replicas.min, spec.image) == (16, 1, None)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no spec": ({}, "spec", "required"),
    "an unknown field": (service(spec__sampling__temperature=1), "spec.sampling.temperature", "not permitted"),
    "a tag": (service(spec__model={"ref": "pvc://m/d:latest"}), "spec.model.ref", "has no digest"),
    "a line too much": (service(spec__model={"ref": f"pvc://m/d@{DIGEST}\n"}), "spec.model.ref", "64 hex digits"),
    "two models": (
        service(spec__model={"ref": f"pvc://m/d@{DIGEST}", "fromTraining": {"name": "a"}}),
        "spec.model",
        "exactly one of ref and fromTraining",
    ),
    "a class twice": (
        service(spec__sampling__classes=[{"name": "a", "steps": 1}, {"name": "a", "steps": 2}]),
        "spec.sampling.classes",
        "a stands twice",
    ),
    "steps out of range": (
        service(spec__sampling__classes=[{"name": "a", "steps": 0}]),
        "spec.sampling.classes[0].steps",
        "greater than or equal to 1",
    ),
    "no keys": (service(spec__auth={}), "spec.auth.keysRef", "required"),
}


@pytest.mark.parametrize(("raw", "path", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_names_its_path(raw: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(SpecInvalid) as refused:
        parse_service_spec(raw)
    assert refused.value.path == path
    assert words in refused.value.why
