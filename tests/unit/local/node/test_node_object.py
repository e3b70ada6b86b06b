"""The Node and its Lease as data, and the agent's configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node.configuration import NodeConfiguration
from diffusion_local.node.moments import parse_moment, rfc3339, rfc3339_micro
from diffusion_local.node.node_object import (
    lease_manifest,
    node_manifest,
    node_status,
    ready_condition,
)

FILE: dict[str, Any] = {
    "name": "spot-1",
    "labels": {"karpenter.sh/capacity-type": "spot"},
    "taints": [{"key": "k", "effect": "NoSchedule"}],
    "address": "10.244.2.1",
    "podCidr": "10.244.2.0/24",
    "server": "https://10.244.0.1:6443/",
    "caFile": "/ca",
    "certFile": "/cert",
    "keyFile": "/key",
    "servingCertFile": "/scert",
    "servingKeyFile": "/skey",
    "stateDirectory": "/state",
    "imagesFile": "/images",
    "hostsFile": "/hosts",
    "capacity": {"cpu": 4, "nvidia.com/gpu": "2"},
    "controlSocket": "/socket",
    "kubeletPort": 10250,
}


@pytest.fixture
def configuration(tmp_path: Path) -> NodeConfiguration:
    file = tmp_path / "node.json"
    file.write_text(json.dumps(FILE))
    return NodeConfiguration.load(file)


def test_the_configuration(configuration: NodeConfiguration) -> None:
    assert configuration.server == "https://10.244.0.1:6443"
    assert configuration.capacity == {"cpu": "4", "nvidia.com/gpu": "2"}
    assert configuration.cloud_cert_file is None
    assert configuration.state_directory == Path("/state")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "node.json"
    file.write_text(json.dumps({key: value for key, value in FILE.items() if key != "podCidr"}))
    with pytest.raises(KeyError, match="podCidr"):
        NodeConfiguration.load(file)


def test_the_node(configuration: NodeConfiguration) -> None:
    node = node_manifest(configuration)
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "spot-1"
    assert node["metadata"]["labels"]["karpenter.sh/capacity-type"] == "spot"
    assert node["spec"] == {
        "podCIDR": "10.244.2.0/24",
        "podCIDRs": ["10.244.2.0/24"],
        "taints": [{"key": "k", "effect": "NoSchedule"}],
    }


def test_its_status(configuration: NodeConfiguration) -> None:
    status = node_status(configuration, "boot", 1000.0, 2000.0)
    assert status["allocatable"] == status["capacity"]
    assert status["capacity"]["nvidia.com/gpu"] == "2"
    assert status["capacity"]["pods"] == "110"
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
        "holderIdentity": "spot-1",
        "leaseDurationSeconds": 40,
        "renewTime": "1970-01-01T00:16:40.500000Z",
    }


@pytest.mark.parametrize("moment", [0.0, 1.0, 1_800_000_000.0])
def test_moments_survive_being_written(moment: float) -> None:
    assert parse_moment(rfc3339(moment)) == moment
    assert parse_moment(rfc3339_micro(moment + 0.25)) == moment + 0.25
