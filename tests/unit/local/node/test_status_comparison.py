"""What of a pod's status others have changed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_local.node.pod_record import PodRecord
from diffusion_local.node.pod_status import pod_status
from diffusion_local.node.status_comparison import holds
from node_simulation import START, Simulation, plain_pod, pods

STORED: dict[str, Any] = {
    "phase": "Running",
    "podIPs": [{"ip": "10.0.0.5"}],
    "conditions": [{"type": "Ready", "status": "True", "reason": None, "lastProbeTime": None}],
    "containerStatuses": [{"name": "main", "ready": True, "restartCount": 0, "lastState": {}}],
}


def seen(**changes: Any) -> dict[str, Any]:
    return {**STORED, **changes}


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "Failed"},
        {"podIPs": []},
        {"podIPs": [{"ip": "10.0.0.5"}, {"ip": "10.0.0.6"}]},
        {"conditions": []},
        {"conditions": [{"type": "Ready", "status": "False"}]},
        {"containerStatuses": [{"name": "main", "ready": False, "restartCount": 0}]},
    ],
)
def test_what_the_node_owns_is_missed(change: dict[str, Any]) -> None:
    assert not holds(STORED, seen(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"resize": "Proposed"},
        {"conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True", "reason": ""}]},
        {"containerStatuses": [{"name": "main", "ready": True, "restartCount": 0, "allocatedResources": {"cpu": "1"}}]},
    ],
)
def test_what_others_own_is_theirs(change: dict[str, Any]) -> None:
    assert holds(STORED, seen(**change))


@given(pods)
def test_every_status_holds_itself_and_what_the_server_makes_of_it(pod: dict[str, Any]) -> None:
    node = Simulation(pod)
    node.turn()
    assert holds(node.status, node.status)
    assert holds(node.status, without_nothing(node.status))


def without_nothing(value: Any) -> Any:
    """As the API server stores it: null and empty fields are dropped."""
    if isinstance(value, dict):
        return {key: without_nothing(entry) for key, entry in value.items() if entry not in (None, {}, [], "")}
    return [without_nothing(entry) for entry in value] if isinstance(value, list) else value


@given(st.sampled_from(["Ready", "ContainersReady", "Initialized", "PodReadyToStartContainers"]))
def test_every_condition_of_the_node_is_watched(kind: str) -> None:
    status = pod_status(plain_pod(), PodRecord(accepted_at=START), "h", {}, START)
    changed = [entry | {"status": "Unknown"} if entry["type"] == kind else entry for entry in status["conditions"]]
    assert not holds(status, {**status, "conditions": changed})
