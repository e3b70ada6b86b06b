from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_operator.kube.likeness import first_difference

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_everything_carries_itself(value: Any) -> None:
    assert first_difference(value, value) is None


@pytest.mark.parametrize(
    ("manifest", "live"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": "x"}}, {"a": {"b": "x", "added": "by the server"}}),
        ({"a": {}}, {}),
        ({"a": []}, {}),
        ({"a": False}, {}),
        ({"a": {"b": {}}}, {"a": {"b": {}}}),
        ({"requests": {"cpu": "0.5"}}, {"requests": {"cpu": "500m"}}),
        ({"limits": {"memory": "1024Mi"}}, {"limits": {"memory": "1Gi"}}),
        ({"limits": {"cpu": 1}}, {"limits": {"cpu": "1"}}),
        ({"emptyDir": {"sizeLimit": "1000Mi"}}, {"emptyDir": {"sizeLimit": "1000Mi"}}),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "B", "value": "x"}, {"name": "A", "value": "1"}]}),
        ({"ports": [{"port": 80}]}, {"ports": [{"port": 80, "protocol": "TCP"}]}),
    ],
)
def test_what_others_add_is_no_difference(manifest: dict[str, Any], live: dict[str, Any]) -> None:
    assert first_difference({"spec": manifest}, {"spec": live}) is None


@pytest.mark.parametrize(
    ("manifest", "live", "where"),
    [
        ({"replicas": 2}, {"replicas": 3}, ".spec.replicas"),
        ({"replicas": 2}, {}, ".spec.replicas"),
        ({"replicas": 0}, {"replicas": 3}, ".spec.replicas"),
        ({"args": ["serve"]}, {"args": ["serve", "--debug"]}, ".spec.args"),
        ({"containers": [{"name": "a", "image": "x"}]}, {"containers": [{"name": "a", "image": "y"}]},
         ".spec.containers[0].image"),
        ({"env": [{"name": "A", "value": "1"}]}, {"env": []}, ".spec.env[0]"),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}, {"key": "b"}]}, ".spec.tolerations"),
        ({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}, ".spec.requests.cpu"),
        ({"labels": {"a": "1k"}}, {"labels": {"a": "1000"}}, ".spec.labels.a"),
        ({"a": {"b": 1}}, {"a": "text"}, ".spec.a"),
        ({"selector": {"a": "1"}}, {"selector": {"a": "1", "b": "2"}}, ".spec.selector.b"),
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"a": "1", "b": "2"}}, ".spec.nodeSelector.b"),
        ({"a": [1]}, {"a": "1"}, ".spec.a"),
        ({"a": "x"}, {"a": None}, ".spec.a"),
    ],
)  # fmt: skip
def test_a_hand_edit_is_named_by_its_path(manifest: dict[str, Any], live: dict[str, Any], where: str) -> None:
    assert first_difference({"spec": manifest}, {"spec": live}) == where


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=1), st.data())
def test_no_changed_or_missing_field_goes_unseen(manifest: dict[str, int], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(manifest)))
    assert first_difference(manifest, {**manifest, key: manifest[key] + 1}) == f".{key}"
    assert first_difference(manifest, {k: v for k, v in manifest.items() if k != key}) == f".{key}"
