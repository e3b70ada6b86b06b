"""The CRDs and the typed specs say the same, both ways: fields, types, enums, defaults, ranges, required fields."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from custom_resource_tables import DIGEST, schema_of
from diffusion_operator.api.service_spec import DiffusionServiceSpec
from diffusion_operator.api.training_spec import DiffusionTrainingSpec
from schema_comparison import declared_node, differences, form_of, misfits, typed_node, with_defaults

SPECS: dict[str, type[BaseModel]] = {
    "DiffusionTraining": DiffusionTrainingSpec,
    "DiffusionService": DiffusionServiceSpec,
}


def spec_schema(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = schema_of(kind)["properties"]["spec"]
    return schema


@pytest.mark.parametrize("kind", SPECS)
def test_schema_and_typed_spec_are_equal(kind: str) -> None:
    assert list(differences(declared_node(spec_schema(kind)), typed_node(SPECS[kind]), "spec")) == []


def test_a_template_means_the_same_in_both_kinds() -> None:
    of_a_training = dict(spec_schema("DiffusionTraining")["properties"]["workers"]["properties"]["template"])
    of_a_service = dict(spec_schema("DiffusionService")["properties"]["template"])
    for template in (of_a_training, of_a_service):
        template.pop("description")
    assert of_a_training == of_a_service


def _nodes(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += _nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            found += _nodes(schema[key], f"{path}[]")
    return found


@pytest.mark.parametrize("kind", SPECS)
def test_every_field_is_typed_and_explained(kind: str) -> None:
    for path, node in _nodes(schema_of(kind), kind):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        if not path.endswith("[]") and not path.endswith(".metadata"):
            assert node.get("description", "").endswith("."), f"{path} has no sentence that explains it"
        if node.get("type") == "array":
            assert node["maxItems"] > 0, f"{path} has no longest length"
            assert node["x-kubernetes-list-type"] in ("map", "atomic", "set"), path


@pytest.mark.parametrize("kind", SPECS)
def test_no_quantity_is_below_zero_whether_text_or_number(kind: str) -> None:
    quantities = [node for _, node in _nodes(spec_schema(kind), "spec") if node.get("x-kubernetes-int-or-string")]
    assert quantities
    assert all(one["minimum"] == 0 and form_of(one)["pattern"].startswith("^([0-9]") for one in quantities)


@pytest.mark.parametrize("kind", SPECS)
def test_every_range_is_told_to_people_too(kind: str) -> None:
    for path, node in _nodes(spec_schema(kind), "spec"):
        if node.get("type") in ("integer", "number"):
            for bound in ("minimum", "maximum"):
                if bound in node:
                    told = f"{node[bound]:g}" if node[bound] < 1_000_000 else str(node[bound])
                    words = node["description"].replace("or more", "0 or more" if node[bound] == 0 else "or more")
                    named = "above betaStart", "min to", "one of replicas", "0 or less"
                    assert told in words or any(name in words for name in named), f"{path}: {bound} {told} is not told"


@pytest.mark.parametrize("kind", SPECS)
def test_every_rule_says_what_to_do(kind: str) -> None:
    for path, node in _nodes(schema_of(kind), kind):
        for rule in node.get("x-kubernetes-validations", []):
            assert len(rule["message"].split()) >= 5, f"{path}: {rule['message']}"


@pytest.mark.parametrize("kind", SPECS)
def test_no_field_that_users_write_is_refused_by_a_regular_expression_without_words(kind: str) -> None:
    assert [path for path, node in _nodes(spec_schema(kind), "spec") if "pattern" in node] == []


LEAVES = {
    "boolean": st.booleans(),
    "string": st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8),
}


EXAMPLES = {"^sha256": DIGEST, "^(builtin": "builtin://digits", "^/": "/data/train"}
"""For patterns that a random word does not match."""


def documents(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Documents that the schema accepts, with any of the optional fields left out."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from([1, "2", "500m", "1.5Gi"])
    for pattern, example in EXAMPLES.items():
        if form_of(schema).get("pattern", "").startswith(pattern):
            return st.just(example)
    kind = schema["type"]
    if kind in ("integer", "number"):
        return _numbers(schema)
    if kind == "array":
        keys = schema.get("x-kubernetes-list-map-keys")
        unique = (lambda item: tuple(item.get(key) for key in keys)) if keys else None
        least, most = schema.get("minItems", 0), min(2, schema.get("maxItems", 2))
        return st.lists(documents(schema["items"]), min_size=least, max_size=most, unique_by=unique)
    if kind == "object":
        return _objects(schema)
    return LEAVES[kind]


def _numbers(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", 0), schema.get("maximum", 1000)
    if schema["type"] == "integer":
        return st.integers(low, high)
    return st.floats(
        low, high, exclude_min=bool(schema.get("exclusiveMinimum")), exclude_max=bool(schema.get("exclusiveMaximum"))
    )


def _objects(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.dictionaries(LEAVES["string"], st.integers(), max_size=2)
    if "additionalProperties" in schema:
        return st.dictionaries(LEAVES["string"], documents(schema["additionalProperties"]), max_size=2)
    required = schema.get("required", [])
    children = {name: documents(child) for name, child in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: children[name] for name in required},
        optional={name: child for name, child in children.items() if name not in required},
    )


def _parsed(kind: str, document: Any) -> BaseModel | None:
    """None where only a rule between fields refuses it: those are compared with the real API server."""
    try:
        return SPECS[kind].model_validate(document)
    except ValidationError as error:
        # A tuple of which an item was refused is said to be too short besides.
        findings = [one for one in error.errors() if not (one["type"] == "too_short" and one["input"])]
        unexpected = {finding["type"] for finding in findings} - {"value_error"}
        if unexpected:
            raise
        return None


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_typed_spec_reads_the_same_with_and_without_the_schemas_defaults(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents(spec_schema(kind)))
    filled = with_defaults(spec_schema(kind), document)
    assert list(misfits(spec_schema(kind), filled, "spec")) == []
    parsed = _parsed(kind, document)
    if parsed is not None:
        assert SPECS[kind].model_validate(filled) == parsed


@pytest.mark.parametrize("kind", SPECS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_both_refuse_a_field_that_neither_knows(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents(spec_schema(kind)))
    places = [document, *(value for value in document.values() if isinstance(value, dict))]
    place = data.draw(st.sampled_from(places))
    place["mystery"] = 1
    assert [fault for fault in misfits(spec_schema(kind), document, "spec") if "mystery" in fault]
    with pytest.raises(ValidationError, match="mystery"):
        SPECS[kind].model_validate(document)
