"""The Node and its Lease as data, and the agent's configuration."""

from pathlib import Path

import pytest

from diffusion_local.node.configuration import NodeConfiguration
from diffusion_local.node.moments import parse_moment, rfc3339, rfc3339_micro
from diffusion_local.node.node_object import (
    lease_manifest,
    node_manifest,
    node_status,
    ready_condition,
)
from node_configurations import node_configuration


@pytest.fixture
def configuration(tmp_path: Path) -> NodeConfiguration:
    labels, capacity = {"karpenter.sh/capacity-type": "spot"}, {"cpu": "4", "nvidia.com/gpu": "2"}
    return node_configuration(tmp_path, labels=labels, capacity=capacity)


def test_the_node(configuration: NodeConfiguration) -> None:
    node = node_manifest(configuration)
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"
    assert node["metadata"]["labels"]["karpenter.sh/capacity-type"] == "spot"
    assert node["spec"] == {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}


def test_its_status(configuration: NodeConfiguration) -> None:
    status = node_status(configuration, "boot", 1000.0, 2000.0)
    assert status["allocatable"] == status["capacity"] == {"cpu": "4", "nvidia.com/gpu": "2"}
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    by_type = {entry["type"]: entry["status"] for entry in status["conditions"]}
    assert by_type == {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    assert {entry["lastTransitionTime"] for entry in status["conditions"]} == {rfc3339(1000)}
    assert {entry["lastHeartbeatTime"] for entry in status["conditions"]} == {rfc3339(2000)}


def test_a_node_that_goes_is_not_ready() -> None:
    assert ready_condition(False, 0, 0)["status"] == "False"


def test_its_lease(configuration: NodeConfiguration) -> None:
    lease = lease_manifest(configuration, "uid", 1000.5)
    assert lease["metadata"]["ownerReferences"][0]["uid"] == "uid"
    assert lease["spec"] == {
        "holderIdentity": "node-1",
        "leaseDurationSeconds": 40,
        "renewTime": "1970-01-01T00:16:40.500000Z",
    }


@pytest.mark.parametrize("moment", [0.0, 1.0, 1_800_000_000.0])
def test_moments_survive_being_written(moment: float) -> None:
    assert parse_moment(rfc3339(moment)) == moment
    assert parse_moment(rfc3339_micro(moment + 0.25)) == moment + 0.25
