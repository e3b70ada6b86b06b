"""Pods of an agent that is gone: who is lost, who is started again, and who has ended."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_local.node.pod_record import ContainerRecord, PodRecord, Terminated, Waiting, know
from diffusion_local.node.pod_recovery import finished_record, recovered_record
from diffusion_local.node.pod_status import TERMINAL_PHASES
from node_simulation import START, Simulation, plain_pod, pods

REBOOT = START + 100


def rebooted(node: Simulation) -> Simulation:
    """The node's next agent, which knows what stands in the API."""
    pod = {**node.pod, "status": node.status}
    finished = node.status["phase"] in TERMINAL_PHASES
    record = finished_record(pod, REBOOT) if finished else recovered_record(pod, REBOOT)
    return Simulation(pod, now=REBOOT, record=record, status=node.status)


def running(policy: str, inits: tuple[str, ...] = (), mains: tuple[str, ...] = ("main",)) -> Simulation:
    """A pod at work."""
    node = Simulation(plain_pod(policy, inits, mains))
    for _ in range(2 + 2 * len(inits)):
        node.turn()
        for name in node.running():
            if name in inits and not name.startswith("side"):
                node.end(name, 0)
    node.turn()
    assert set(mains) <= set(node.running())
    return node


def ended(node: Simulation, name: str, kind: str = "state") -> dict[str, Any]:
    """How a container ended, by its status."""
    found: dict[str, Any] = node.container_status(name)[kind]["terminated"]
    return found


def test_a_pod_that_is_never_restarted_has_failed_with_its_containers() -> None:
    before = running("Never", mains=("ran", "over"))
    before.end("over", 5)
    before.turn()
    node = rebooted(before)
    node.turn()
    assert node.starts == []
    assert node.status["phase"] == "Failed"
    lost, over = ended(node, "ran"), ended(node, "over")
    assert (lost["exitCode"], lost["reason"]) == (137, "ContainerStatusUnknown")
    assert lost["startedAt"] < lost["finishedAt"] == "2027-01-15T08:01:40Z"
    assert (over["exitCode"], over["reason"]) == (5, "Error")


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_any_other_pod_is_started_again_in_place(policy: str) -> None:
    node = rebooted(running(policy))
    assert node.turn().start == ["main"]
    status = node.container_status("main")
    assert (status["restartCount"], ended(node, "main", "lastState")["exitCode"]) == (1, 137)
    assert node.status["phase"] == "Running"


def test_a_container_that_had_done_its_work_is_not_started_again() -> None:
    before = running("OnFailure", mains=("done", "ran"))
    before.end("done", 0)
    before.turn()
    node = rebooted(before)
    assert node.turn().start == ["ran"]
    assert ended(node, "done")["exitCode"] == 0


def test_init_containers_come_first_once_more_since_the_volumes_are_new() -> None:
    node = rebooted(running("Always", inits=("one", "side-1", "two")))
    assert node.turn().start == ["one"]
    assert node.status["phase"] == "Pending"
    node.end("one", 0)
    assert node.turn().start == ["side-1"]
    assert node.turn().start == ["two"]
    node.end("two", 0)
    assert node.turn().start == ["main"]
    assert node.status["phase"] == "Running"
    for name in ("one", "side-1", "two", "main"):
        assert node.container_status(name)["restartCount"] == 1


def test_an_init_container_that_was_lost_is_restarted() -> None:
    before = Simulation(plain_pod("Always", inits=("one",)))
    before.turn()
    node = rebooted(before)
    assert node.turn().start == ["one"]
    assert ended(node, "one", "lastState")["exitCode"] == 137


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_pod_of_which_nothing_had_run_simply_starts(policy: str) -> None:
    before = Simulation(plain_pod(policy))
    before.record = know(before.pod, before.record, "main", ContainerRecord(Waiting("ErrImagePull"), retry_at=2e9))
    before.turn()
    node = rebooted(before)
    assert node.turn().start == ["main"]
    assert node.container_status("main")["restartCount"] == 0


def test_a_container_that_waited_for_its_back_off_is_started_with_its_history() -> None:
    before = running("Always")
    for _ in range(2):
        before.end("main", 9)
        before.turn()
    assert before.container_status("main")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    node = rebooted(before)
    assert node.turn().start == ["main"]
    assert (node.container_status("main")["restartCount"], ended(node, "main", "lastState")["exitCode"]) == (2, 9)


def test_a_pod_that_had_ended_keeps_its_record() -> None:
    before = running("Never")
    before.end("main", 3)
    before.turn()
    node = rebooted(before)
    assert node.turn().start == []
    assert node.status == before.status


def test_the_reason_of_an_end_is_kept() -> None:
    pod = plain_pod()
    pod["status"] = {"phase": "Failed", "reason": "DeadlineExceeded", "message": "too late"}
    node = Simulation(pod, record=finished_record(pod, REBOOT))
    node.turn()
    assert (node.status["phase"], node.status["reason"], node.status["message"]) == (
        "Failed",
        "DeadlineExceeded",
        "too late",
    )


@settings(max_examples=50)
@given(pods, st.data())
def test_every_pod_goes_on_after_a_reboot_or_has_failed(pod: dict[str, Any], data: st.DataObject) -> None:
    before = Simulation(pod)
    for _ in range(data.draw(st.integers(1, 12))):
        before.turn()
        if data.draw(st.booleans()) and before.running():
            before.end(data.draw(st.sampled_from(sorted(before.running()))), data.draw(st.sampled_from([0, 1])))
        before.now += 15.0
    before.turn()
    node = rebooted(before)
    for _ in range(40):
        node.turn()
        for name in node.running():
            if name not in node.sidecars() and not name.startswith("main"):
                node.end(name, 0)
        if node.decision.over:
            for name in node.running():
                node.end(name, 143)
        node.now += 15.0
    at_work = any(name.startswith("main") for name in node.running())
    assert at_work or node.status["phase"] in TERMINAL_PHASES
    if before.status["phase"] in TERMINAL_PHASES:
        assert (node.status["phase"], node.starts) == (before.status["phase"], [])
    elif before.starts and pod["spec"]["restartPolicy"] == "Never":
        assert node.starts == []
    for name, known in before.record.containers.items():
        assert node.record.containers[name].restarts >= known.restarts


def test_a_record_without_a_status_is_empty() -> None:
    assert replace(recovered_record(plain_pod(), START), accepted_at=0.0) == PodRecord()
    assert Terminated(0, "").finished_at == 0.0
