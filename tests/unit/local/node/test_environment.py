"""Variables of containers and `$(VAR)`."""

import base64
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_local.node.environment import (
    ConfigurationMissing,
    Surroundings,
    container_environment,
    expand,
    object_data,
    referenced_objects,
)

POD = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "a"}},
    "spec": {"nodeName": "node", "containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]},
}
NAMES = st.text("ABC_", min_size=1, max_size=3)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def around(**objects: Any) -> Surroundings:
    """Surroundings with ConfigMaps (cm_NAME=...) and Secrets (secret_NAME=...); None is one that does not exist."""
    kinds = {"cm": "configmap", "secret": "secret"}
    table = {}
    for name, data in objects.items():
        kind, _, rest = name.partition("_")
        table[kinds[kind], rest] = None if data is None else {"data": data}
    return Surroundings(POD, "10.0.0.5", "10.0.0.1", {"cpu": "8"}, table)


def environment(surroundings: Surroundings, **container: Any) -> dict[str, str]:
    return container_environment({"name": "c", **container}, {"BASE": "b"}, surroundings)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)z", "x1y2z"),
        ("$(NO)", "$(NO)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(A", "$A ${A} $(A"),
        ("", ""),
        ("100$", "100$"),
    ],
)
def test_expansion(text: str, value: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == value


@given(st.text("ab$()", max_size=12))
def test_expansion_is_total_and_leaves_texts_without_dollars_alone(text: str) -> None:
    shown = expand(text, {"a": "v"})
    assert "$" in text or shown == text


@given(st.lists(st.tuples(NAMES, st.text("xy$", max_size=4)), max_size=6))
def test_the_last_value_of_a_name_wins_and_base_is_kept(entries: list[tuple[str, str]]) -> None:
    variables = environment(around(), env=[{"name": name, "value": value} for name, value in entries])
    assert variables["BASE"] == "b"
    assert variables == {"BASE": "b"} | {name: expand(value, {}) for name, value in entries}


def test_what_the_image_brings_is_not_expanded() -> None:
    assert environment(around(), env=[{"name": "PATH", "value": "/my:$(PATH)"}])["PATH"] == "/my:$(PATH)"


def test_a_value_may_use_earlier_names_only() -> None:
    entries = [{"name": "A", "value": "$(B)"}, {"name": "B", "value": "2"}, {"name": "C", "value": "$(B)$(BASE)"}]
    assert environment(around(), env=entries) == {"BASE": "b", "A": "$(B)", "B": "2", "C": "2b"}


def test_values_from_everywhere() -> None:
    surroundings = around(cm_m={"k": "from map"}, secret_s={"k": encoded("from secret")})
    entries = [
        {"name": "MAP", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CORES", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "EMPTY"},
    ]
    wanted = {"MAP": "from map", "SECRET": "from secret", "IP": "10.0.0.5", "CORES": "2", "EMPTY": ""}
    assert environment(surroundings, env=entries) == {"BASE": "b"} | wanted


@pytest.mark.parametrize("prefix", ["P_", "", None])
def test_every_key_of_an_object_is_a_variable(prefix: str | None) -> None:
    surroundings = around(cm_m={"good": "1", "2nd": "2", "dots.are-fine": "3"})
    variables = environment(surroundings, envFrom=[{"prefix": prefix, "configMapRef": {"name": "m"}}])
    before = prefix or ""
    assert variables == {"BASE": "b", f"{before}good": "1", f"{before}2nd": "2", f"{before}dots.are-fine": "3"}


def test_env_wins_over_env_from() -> None:
    surroundings = around(secret_s={"A": encoded("secret")})
    sources = [{"secretRef": {"name": "s"}}]
    assert environment(surroundings, envFrom=sources, env=[{"name": "A", "value": "own"}])["A"] == "own"


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"envFrom": [{"configMapRef": {"name": "m"}}]}, 'configmap "m" not found'),
        ({"envFrom": [{"secretRef": {"name": "s"}}]}, 'secret "s" not found'),
        (
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "there", "key": "no"}}}]},
            "couldn't find key no in ConfigMap n/there",
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            'secret "s" not found',
        ),
        ({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {}}}]}, "does not support"),
    ],
)
def test_what_is_missing_is_named(container: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationMissing, match=message):
        environment(around(cm_m=None, secret_s=None, cm_there={}), **container)


@pytest.mark.parametrize("reference", [{"name": "m", "key": "k"}, {"name": "there", "key": "no"}])
def test_what_is_optional_may_be_missing(reference: dict[str, str]) -> None:
    entries = [{"name": "A", "valueFrom": {"configMapKeyRef": {**reference, "optional": True}}}]
    sources = [{"secretRef": {"name": "s", "optional": True}}]
    assert environment(around(cm_there={}), env=entries, envFrom=sources) == {"BASE": "b"}


def test_binary_data_of_a_config_map_is_decoded() -> None:
    assert object_data("configmap", {"data": {"a": "x"}, "binaryData": {"b": encoded("y")}}) == {"a": b"x", "b": b"y"}


def test_references_are_found_wherever_they_stand() -> None:
    container = {
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m1", "key": "k"}}},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "D", "value": "x"},
        ],
        "envFrom": [{"configMapRef": {"name": "m2"}}, {"secretRef": {"name": "s2"}}],
    }
    found = {("configmap", "m1"), ("secret", "s1"), ("configmap", "m2"), ("secret", "s2")}
    assert referenced_objects(container) == found
    assert referenced_objects({}) == set()


def test_binary_data_is_in_no_variable() -> None:
    manifest = {"data": {"a": "x"}, "binaryData": {"b": encoded("y")}}
    around_it = dataclasses.replace(around(), objects={("configmap", "c"): manifest})
    assert environment(around_it, envFrom=[{"configMapRef": {"name": "c"}}]) == {"BASE": "b", "a": "x"}
    source = {"configMapKeyRef": {"name": "c", "key": "b"}}
    with pytest.raises(ConfigurationMissing, match="couldn't find key b"):
        environment(around_it, env=[{"name": "B", "valueFrom": source}])
