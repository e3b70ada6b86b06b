"""The other children of a DiffusionTraining: names and owners, claims, the run's ConfigMap, Service and budget."""

import json
from typing import Any

import pytest

from diffusion_contract.run_config import RunConfig
from diffusion_operator.api.training_spec import TrainingCustomResource, parse_training
from diffusion_operator.children.claim import claims
from diffusion_operator.children.headless_service import headless_service
from diffusion_operator.children.metadata import Owner, child_name, label_value, spec_hash
from diffusion_operator.children.run_config_map import run_config_map
from diffusion_operator.children.training_disruption_budget import training_disruption_budget
from world_builders import MINIMAL, TWO_POOLS, custom_resource, spec_with


def training(spec: Any = MINIMAL) -> TrainingCustomResource:
    return parse_training(custom_resource(spec))


def test_every_child_belongs_to_its_custom_resource() -> None:
    parsed = training(spec_with(publish={"claim": {"size": "1Gi"}}))
    children = [
        *claims(parsed, {}),
        run_config_map(parsed, "PEM"),
        headless_service(parsed),
        training_disruption_budget(parsed, 1),
    ]
    for child in children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == ("cr-uid", True)
        assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "diffusion-operator"
        assert child["metadata"]["labels"]["diffusion.dev/training"] == "digits"
        assert child["metadata"]["namespace"] == "team"


def test_claims_that_are_there_already_are_not_made() -> None:
    spec = spec_with(checkpoint__storage={"existingClaim": "mine"}, publish={"existingClaim": "models"})
    assert claims(training(spec), {}) == ()


def test_claims_are_made_as_asked() -> None:
    claim = {"size": "20Gi", "storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}
    first, second = claims(
        training(spec_with(checkpoint__storage={"claim": claim}, publish={"claim": {"size": "1Gi"}})), {}
    )
    assert first["metadata"]["name"] == "digits-checkpoints"
    assert first["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "20Gi"}},
        "storageClassName": "fast",
    }
    assert (second["metadata"]["name"], second["spec"]["accessModes"]) == ("digits-models", ["ReadWriteMany"])


@pytest.mark.parametrize(
    ("asked", "live", "sent"),
    [("1Gi", "2Gi", "2Gi"), ("2Gi", "1Gi", "2Gi"), ("1Gi", "1024Mi", "1024Mi"), ("1Gi", "", "1Gi")],
)
def test_a_claim_never_shrinks(asked: str, live: str, sent: str) -> None:
    spec = spec_with(checkpoint__storage={"claim": {"size": asked}})
    (made,) = claims(training(spec), {"digits-checkpoints": live, "other": "9Ti"})
    assert made["spec"]["resources"]["requests"]["storage"] == sent


def test_the_run_config_is_what_the_trainer_parses() -> None:
    spec = spec_with(publish={"claim": {"size": "1Gi"}, "card": {"license": "CC0-1.0", "intendedUse": "tests"}})
    data = run_config_map(training(spec), "PEM")["data"]
    config = RunConfig.model_validate_json(data["run.json"])
    assert (config.name, config.namespace, config.uid) == ("digits", "team", "cr-uid")
    assert config.training.target_steps == 20
    assert config.publish is not None
    assert (config.publish.claim, config.publish.name, config.publish.license) == ("digits-models", "digits", "CC0-1.0")
    assert data["agent-ca.crt"] == "PEM"
    assert "storage" not in json.loads(data["run.json"])["checkpoint"]


def test_names_resolve_before_workers_are_ready() -> None:
    spec = headless_service(training())["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"]
    assert spec["selector"] == {"diffusion.dev/training": "digits"}


@pytest.mark.parametrize(("least", "most", "kept"), [(1, 1, 0), (1, 2, 1), (2, 2, 1), (2, 4, 2)])
def test_a_drain_is_always_possible_and_never_takes_too_many(least: int, most: int, kept: int) -> None:
    budget = training_disruption_budget(training(spec_with(workers={"min": least, "max": most})), 3)
    assert budget["spec"]["minAvailable"] == kept
    assert budget["spec"]["selector"]["matchLabels"]["diffusion.dev/attempt"] == "3"


def test_names_are_functions_of_the_uid() -> None:
    owner = Owner("DiffusionTraining", "digits", "team", "one")
    assert child_name(owner, "base", "1") == child_name(owner, "base", "1")
    assert child_name(owner, "base", "1") != child_name(
        Owner("DiffusionTraining", "digits", "team", "two"), "base", "1"
    )
    assert child_name(owner, "base", "1") != child_name(owner, "base", "2")


@pytest.mark.parametrize("name", ["a" * 253, "a.b.c" * 20, "-", "x"])
def test_names_are_dns_labels(name: str) -> None:
    made = child_name(Owner("DiffusionTraining", name, "team", "one"), "base", "1", limit=52)
    assert len(made) <= 52
    assert made.replace("-", "").isalnum()
    assert made[0] != "-"


def test_label_values_fit() -> None:
    assert label_value("digits") == "digits"
    assert len(label_value("a" * 253)) <= 63
    assert label_value("a" * 100) != label_value("a" * 101)


def test_a_hash_ignores_the_order_of_keys() -> None:
    assert spec_hash({"a": 1, "b": [1, 2]}) == spec_hash({"b": [1, 2], "a": 1})
    assert spec_hash({"b": [2, 1]}) != spec_hash({"b": [1, 2]})
    assert TWO_POOLS["workers"] == {"min": 1, "max": 2}
