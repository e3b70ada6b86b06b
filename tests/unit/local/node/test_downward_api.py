"""What a pod may ask about itself."""

import pytest

from diffusion_local.node.downward_api import escaped_map, field_value, resource_value

POD = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"app": "a", "diffusion.dev/x": "y"},
        "annotations": {"note": 'say "hi"\nthere'},
    },
    "spec": {
        "nodeName": "node-1",
        "serviceAccountName": "sa",
        "initContainers": [{"name": "first", "resources": {"requests": {"cpu": "100m"}}}],
        "containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
            {"name": "plain"},
        ],
    },
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "a"),
        ("metadata.labels['diffusion.dev/x']", "y"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['note']", 'say "hi"\nthere'),
        ("metadata.labels", 'app="a"\ndiffusion.dev/x="y"'),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "sa"),
        ("status.podIP", "10.0.0.5"),
        ("status.podIPs", "10.0.0.5"),
        ("status.hostIP", "10.0.0.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert field_value(POD, path, "10.0.0.5", "10.0.0.1") == value


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"spec\.hostname"):
        field_value(POD, "spec.hostname", "", "")


def test_maps_are_escaped() -> None:
    assert escaped_map({"b": "x\\y", "a": 'q"\n'}) == 'a="q\\"\\n"\nb="x\\\\y"'


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "64"),
        ({"resource": "limits.memory"}, str(64 * 2**20)),
        ({"resource": "requests.cpu", "divisor": "0"}, "1"),
        ({"resource": "requests.cpu", "containerName": "first", "divisor": "1m"}, "100"),
        ({"resource": "limits.cpu", "containerName": "plain"}, "8"),
        ({"resource": "requests.cpu", "containerName": "plain"}, "0"),
    ],
)
def test_resources(reference: dict[str, str], value: str) -> None:
    assert resource_value(POD, reference, "c", {"cpu": "8"}) == value


def test_resources_of_an_unknown_container_are_refused() -> None:
    with pytest.raises(ValueError, match="'nobody'"):
        resource_value(POD, {"resource": "limits.cpu", "containerName": "nobody"}, "c", {})
