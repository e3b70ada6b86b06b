"""The status of a pod as a kubelet writes it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_local.node.container_status import record_from_status, terminated_from
from diffusion_local.node.moments import rfc3339
from diffusion_local.node.pod_record import ContainerRecord, PodRecord, Running, Terminated, Verdict, Waiting
from diffusion_local.node.pod_status import TERMINAL_PHASES, pod_status, quality_of_service
from node_simulation import START, Simulation, plain_pod, pods

OWNED = {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"}


def with_resources(*resources: dict[str, Any]) -> dict[str, Any]:
    pod = plain_pod(mains=tuple(f"c{index}" for index in range(len(resources))))
    for container, entry in zip(pod["spec"]["containers"], resources, strict=True):
        container["resources"] = entry
    return pod


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ([{}], "BestEffort"),
        ([{"limits": {"nvidia.com/gpu": "1"}}], "BestEffort"),
        ([{"requests": {"cpu": "1"}}], "Burstable"),
        ([{"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}], "Guaranteed"),
        ([{"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1024Mi"}}], "Guaranteed"),
        ([{"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}, {}], "Burstable"),
    ],
)
def test_quality_of_service(resources: list[dict[str, Any]], quality: str) -> None:
    assert quality_of_service(with_resources(*resources)) == quality


def test_a_pod_that_just_arrived_is_pending() -> None:
    status = pod_status(plain_pod(), PodRecord(accepted_at=START), "10.0.0.1", {}, START)
    assert status["phase"] == "Pending"
    assert status["startTime"] == rfc3339(START)
    assert "podIP" not in status
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    by_type = {entry["type"]: entry for entry in status["conditions"]}
    assert set(by_type) == OWNED
    assert by_type["PodReadyToStartContainers"]["status"] == "False"
    assert by_type["Initialized"]["status"] == "True"
    assert by_type["Ready"]["reason"] == "ContainersNotReady"
    assert by_type["Ready"]["message"] == "containers with unready status: [main]"


def test_a_pod_with_init_containers_says_which_are_incomplete() -> None:
    node = Simulation(plain_pod(inits=("one", "two")))
    node.turn()
    initialized = node.condition("Initialized")
    assert (initialized["status"], initialized["reason"]) == ("False", "ContainersNotInitialized")
    assert initialized["message"] == "containers with incomplete status: [one two]"
    assert node.container_status("main")["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert not node.container_status("one")["ready"]
    node.end("one", 0)
    node.turn()
    assert node.container_status("one")["ready"]
    assert node.condition("Initialized")["message"] == "containers with incomplete status: [two]"


def test_a_running_pod_is_ready_with_its_address() -> None:
    node = Simulation(plain_pod())
    node.turn()
    assert node.status["phase"] == "Running"
    assert node.status["podIPs"] == [{"ip": "10.0.0.5"}]
    assert node.condition("Ready")["status"] == "True"
    assert node.condition("Ready")["reason"] is None
    status = node.container_status("main")
    assert status["ready"]
    assert status["started"]
    assert status["containerID"] == "process://main-0"
    assert status["state"] == {"running": {"startedAt": rfc3339(START)}}


def test_a_container_that_is_not_ready_is_named() -> None:
    node = Simulation(plain_pod(mains=("a", "b")))
    node.turn()
    node.put("b", replace(node.record.containers["b"], ready=False))
    node.turn()
    assert node.condition("Ready")["message"] == "containers with unready status: [b]"
    assert node.condition("ContainersReady")["status"] == "False"


def test_containers_for_debugging_are_said_not_to_run_and_change_nothing_else() -> None:
    simulation = Simulation(plain_pod())
    simulation.turn()
    before = simulation.status
    simulation.pod["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "image"}]
    simulation.turn()
    (said,) = simulation.status.pop("ephemeralContainerStatuses")
    assert (said["name"], said["ready"]) == ("debugger", False)
    assert said["state"]["terminated"]["reason"] == "NotSupported"
    assert simulation.status == before


def test_readiness_gates_hold_ready_back() -> None:
    pod = plain_pod()
    pod["spec"]["readinessGates"] = [{"conditionType": "x/y"}]
    node = Simulation(pod)
    node.turn()
    assert node.condition("ContainersReady")["status"] == "True"
    ready = node.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    assert 'readiness gate "x/y" does not exist' in ready["message"]
    pod["status"] = {"conditions": [{"type": "x/y", "status": "True"}]}
    node.turn()
    assert node.condition("Ready")["status"] == "True"


@pytest.mark.parametrize(
    ("exit_code", "phase", "reason"), [(0, "Succeeded", "PodCompleted"), (3, "Failed", "PodFailed")]
)
def test_the_end_of_a_pod(exit_code: int, phase: str, reason: str) -> None:
    node = Simulation(plain_pod())
    node.turn()
    node.end("main", exit_code)
    node.turn()
    assert node.status["phase"] == phase
    assert node.condition("Ready")["reason"] == reason
    assert node.condition("PodReadyToStartContainers")["status"] == "False"
    assert node.container_status("main")["state"]["terminated"]["exitCode"] == exit_code


def test_a_deleted_pod_of_policy_always_ends_by_its_exit_codes() -> None:
    for exit_code, phase in ((0, "Succeeded"), (143, "Failed")):
        node = Simulation(plain_pod("Always"))
        node.turn()
        node.record = replace(node.record, stopping=True)
        node.turn()
        assert node.status["phase"] == "Running"
        node.end("main", exit_code)
        node.turn()
        assert node.status["phase"] == phase


def test_a_pod_that_never_started_fails_when_it_is_deleted() -> None:
    node = Simulation(plain_pod())
    node.record = replace(node.record, stopping=True)
    node.turn()
    assert node.status["phase"] == "Failed"


def test_a_disruption_is_a_condition_and_its_reason_comes_with_the_end() -> None:
    node = Simulation(plain_pod())
    node.turn()
    node.record = replace(
        node.record, failure=Verdict("Terminated", "shutdown"), disruption=Verdict("TerminationByKubelet", "shutdown")
    )
    node.turn()
    assert node.condition("DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert node.status["phase"] == "Running"
    node.end("main", 0)
    node.turn()
    assert (node.status["phase"], node.status["reason"]) == ("Failed", "Terminated")


def test_a_restart_keeps_how_the_container_ended_before() -> None:
    node = Simulation(plain_pod("Always"))
    node.turn()
    node.end("main", 7, "OOMKilled")
    node.turn()
    status = node.container_status("main")
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert status["containerID"] == "process://main-1"


def test_times_of_conditions_change_with_their_status_only() -> None:
    node = Simulation(plain_pod())
    node.turn()
    node.now += 10
    node.turn()
    assert node.condition("Ready")["lastTransitionTime"] == rfc3339(START)
    node.end("main", 0)
    node.now += 10
    node.turn()
    assert node.condition("Ready")["lastTransitionTime"] == rfc3339(START + 20)
    assert node.condition("Initialized")["lastTransitionTime"] == rfc3339(START)


@settings(max_examples=50, deadline=None)
@given(pods, st.data())
def test_statuses_are_whole_and_agree_with_themselves(pod: dict[str, Any], data: st.DataObject) -> None:
    node = Simulation(pod)
    for _ in range(25):
        node.turn()
        status = node.status
        assert status == pod_status(pod, node.record, "10.0.0.1", status, node.now)
        assert {entry["type"] for entry in status["conditions"]} == OWNED
        names = [entry["name"] for entry in status["containerStatuses"]]
        assert names == sorted(entry["name"] for entry in pod["spec"]["containers"])
        for entry in [*status["containerStatuses"], *status.get("initContainerStatuses", [])]:
            assert len(entry["state"]) == 1
            assert not entry["ready"] or "running" in entry["state"] or entry["state"]["terminated"]["exitCode"] == 0
        ready = node.condition("Ready")["status"] == "True"
        if ready:
            assert status["phase"] == "Running"
            assert all(entry["ready"] for entry in status["containerStatuses"])
        if status["phase"] in TERMINAL_PHASES:
            assert not [name for name in node.running() if name not in node.sidecars()]
        running = node.running()
        if data.draw(st.booleans()) and running:
            node.end(data.draw(st.sampled_from(sorted(running))), data.draw(st.sampled_from([0, 1])))
        node.now += data.draw(st.sampled_from([0.0, 20.0]))


def phase_with(states: list[ContainerRecord | None], policy: str = "Always") -> str:
    pod = plain_pod(policy, mains=tuple(f"c{index}" for index in range(len(states))))
    known = {f"c{index}": state for index, state in enumerate(states) if state is not None}
    return str(pod_status(pod, PodRecord(known), "h", {}, START)["phase"])


RUNS = ContainerRecord(Running(START))
PULLS = ContainerRecord(Waiting("ErrImagePull"))
LOOPS = ContainerRecord(Waiting("CrashLoopBackOff"), last=Terminated(1, "Error"))
DONE, BROKEN = ContainerRecord(Terminated(0, "Completed")), ContainerRecord(Terminated(3, "Error"))


@pytest.mark.parametrize(
    ("states", "policy", "phase"),
    [
        ([RUNS, RUNS], "Always", "Running"),
        ([RUNS, PULLS], "Always", "Pending"),
        ([RUNS, None], "Always", "Pending"),
        ([RUNS, LOOPS], "Always", "Running"),
        ([LOOPS, LOOPS], "Always", "Running"),
        ([LOOPS, PULLS], "Always", "Pending"),
        ([DONE, PULLS], "Never", "Pending"),
        ([DONE, RUNS], "Never", "Running"),
        ([BROKEN, RUNS], "Never", "Running"),
        ([DONE, BROKEN], "Never", "Failed"),
        ([DONE, DONE], "Never", "Succeeded"),
        ([DONE, BROKEN], "OnFailure", "Running"),
        ([DONE, DONE], "OnFailure", "Succeeded"),
        ([DONE, DONE], "Always", "Running"),
    ],
)
def test_the_phase_of_containers_in_different_states(
    states: list[ContainerRecord | None], policy: str, phase: str
) -> None:
    assert phase_with(states, policy) == phase


@given(
    st.builds(
        Terminated,
        st.integers(0, 255),
        st.sampled_from(["Completed", "Error", "OOMKilled"]),
        st.text(max_size=5),
        st.integers(0, 2_000_000_000).map(float),
        st.integers(0, 2_000_000_000).map(float),
        st.text("ab", max_size=3),
    ),
    st.integers(0, 9),
)
def test_records_survive_the_way_through_a_status(end: Terminated, restarts: int) -> None:
    record = ContainerRecord(end, last=end, restarts=restarts, failures=1, container_id="c")
    pod = plain_pod()
    status = pod_status(pod, PodRecord({"main": record}), "h", {}, START)["containerStatuses"][0]
    assert record_from_status(status, START) == record
    assert terminated_from(status["state"]["terminated"]) == end
