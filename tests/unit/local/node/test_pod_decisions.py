"""What to do next with a pod: examples, and properties over whole lives of pods of any shape."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_local.node.moments import rfc3339
from diffusion_local.node.pod_decisions import decide, full_name, restart_wanted
from diffusion_local.node.pod_record import ContainerRecord, Terminated, Waiting, init_containers, main_containers
from diffusion_local.node.pod_status import TERMINAL_PHASES
from node_simulation import START, Simulation, plain_pod, pods


def test_containers_start_together_and_once() -> None:
    node = Simulation(plain_pod(mains=("a", "b")))
    assert node.turn().start == ["a", "b"]
    assert node.turn().start == []
    assert node.decision.wake_at == float("inf")


def test_init_containers_run_one_after_the_other() -> None:
    node = Simulation(plain_pod(inits=("one", "two")))
    assert node.turn().start == ["one"]
    assert node.turn().start == []
    node.end("one", 0)
    assert node.turn().start == ["two"]
    node.end("two", 0)
    assert node.turn().start == ["main"]


def test_a_sidecar_counts_once_it_has_started() -> None:
    node = Simulation(plain_pod(inits=("side",)))
    node.turn()
    node.put("side", replace(node.record.containers["side"], started=False))
    assert node.turn().start == []
    node.put("side", replace(node.record.containers["side"], started=True))
    assert node.turn().start == ["main"]


def test_a_sidecar_is_restarted_while_the_pod_lives_and_not_after() -> None:
    node = Simulation(plain_pod(inits=("side",)))
    node.turn()
    node.turn()
    node.end("side", 1)
    assert node.turn().start == ["side"]
    node.end("main", 0)
    assert node.turn().over
    node.end("side", 0)
    assert node.turn().start == []
    assert node.status["phase"] == "Succeeded"


def test_a_failed_init_container_of_a_pod_that_is_never_restarted_is_the_end() -> None:
    node = Simulation(plain_pod("Never", inits=("one", "two")))
    node.turn()
    node.end("one", 3)
    assert node.turn().over
    assert node.starts == ["one"]
    assert node.status["phase"] == "Failed"


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_a_failed_init_container_is_tried_again_otherwise(policy: str) -> None:
    node = Simulation(plain_pod(policy, inits=("one",)))
    node.turn()
    node.end("one", 3)
    assert node.turn().start == ["one"]
    node.end("one", 3)
    assert node.turn().start == []
    assert node.decision.wake_at == START + 10


def test_back_off_is_shown_and_then_over() -> None:
    node = Simulation(plain_pod("Always"))
    node.turn()
    node.end("main", 1)
    assert node.turn().start == ["main"]
    node.end("main", 1)
    message = f"back-off 10s restarting failed container=main pod={full_name(node.pod)}"
    assert node.turn().waiting == {"main": Waiting("CrashLoopBackOff", message)}
    node.now += 9.9
    assert node.turn().start == []
    node.now += 0.2
    assert node.turn().start == ["main"]


@pytest.mark.parametrize(
    ("policy", "exit_code", "wanted"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policies(policy: str, exit_code: int, wanted: bool) -> None:
    assert restart_wanted({"name": "c"}, policy, Terminated(exit_code, "")) is wanted


@pytest.mark.parametrize(
    ("operator", "exit_code", "wanted"), [("In", 42, True), ("In", 1, False), ("NotIn", 42, False), ("NotIn", 1, True)]
)
def test_a_container_may_have_rules_and_a_policy_of_its_own(operator: str, exit_code: int, wanted: bool) -> None:
    rule = {"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}
    container = {"name": "c", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    assert restart_wanted(container, "Always", Terminated(exit_code, "")) is wanted


def test_an_image_error_is_shown_before_its_back_off() -> None:
    pod = plain_pod()
    known = ContainerRecord(Waiting("ErrImagePull", "not found"), failures=1, retry_at=START + 10, failed_at=START)
    node = Simulation(pod)
    node.put("main", known)
    assert decide(pod, node.record, START + 0.5).waiting == {}
    assert decide(pod, node.record, START + 0.5).wake_at == START + 1
    shown = decide(pod, node.record, START + 2).waiting["main"]
    assert shown == Waiting("ImagePullBackOff", 'Back-off pulling image "image": not found')
    assert decide(pod, node.record, START + 10).start == ["main"]


def test_the_deadline_counts_from_the_start_time_in_the_status() -> None:
    pod = plain_pod()
    pod["spec"]["activeDeadlineSeconds"] = 60
    pod["status"] = {"startTime": rfc3339(START - 50)}
    node = Simulation(pod)
    assert node.turn().wake_at == START + 10
    node.now += 10
    failure = node.turn().failure
    assert failure is not None
    assert failure.reason == "DeadlineExceeded"
    node.end("main", 143)
    node.turn()
    assert (node.status["phase"], node.status["reason"]) == ("Failed", "DeadlineExceeded")


def test_nothing_is_started_in_a_pod_that_is_to_stop() -> None:
    node = Simulation(plain_pod("Always"))
    node.record = replace(node.record, stopping=True)
    assert node.turn().start == []
    assert node.decision.over


def live(pod: dict[str, Any], draw: Any, turns: int = 40) -> list[Simulation]:
    """Let containers of a pod end at random; the simulation after each turn (a copy)."""
    node, seen = Simulation(pod), []
    for _ in range(turns):
        node.turn()
        seen.append(replace(node, starts=list(node.starts)))
        running = node.running()
        if running and draw(st.booleans()):
            node.end(draw(st.sampled_from(sorted(running))), draw(st.sampled_from([0, 0, 1, 137])))
        node.now += draw(st.sampled_from([0.0, 1.0, 15.0, 700.0]))
    return seen


@settings(max_examples=50, deadline=None)
@given(pods, st.data())
def test_lives_of_pods(pod: dict[str, Any], data: st.DataObject) -> None:
    seen = live(pod, data.draw)
    inits = [entry["name"] for entry in init_containers(pod)]
    mains = [entry["name"] for entry in main_containers(pod)]
    for before, after in itertools.pairwise(seen):
        assert phase_may_follow(before.status["phase"], after.status["phase"])
        for name in before.record.containers:
            known, later = before.record.containers[name], after.record.containers[name]
            assert later.restarts - known.restarts in (0, 1)
        fresh = after.starts[len(before.starts) :]
        if any(name in mains for name in fresh):
            assert all(name in before.record.containers for name in inits if not name.startswith("side")) or not inits
        if before.status["phase"] in TERMINAL_PHASES:
            assert not fresh
    if pod["spec"]["restartPolicy"] == "Never":
        plain = [name for name in seen[-1].starts if not name.startswith("side")]
        assert len(plain) == len(set(plain))


def phase_may_follow(before: str, after: str) -> bool:
    """Phases only move on; what has ended stays as it is."""
    order = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}
    return after == before if before in TERMINAL_PHASES else order[after] >= order[before]


@settings(max_examples=50, deadline=None)
@given(pods, st.data())
def test_a_pod_whose_containers_all_end_well_succeeds(pod: dict[str, Any], data: st.DataObject) -> None:
    if pod["spec"]["restartPolicy"] == "Always":
        pod["spec"]["restartPolicy"] = "OnFailure"
    node = Simulation(pod)
    for _ in range(40):
        node.turn()
        ordinary = [name for name in sorted(node.running()) if name not in node.sidecars()]
        if ordinary:
            node.end(data.draw(st.sampled_from(ordinary)), 0)
        elif node.decision.over:
            for name in node.running():
                node.end(name, 143)
        node.now += 1
    assert node.status["phase"] == "Succeeded"


@settings(max_examples=50, deadline=None)
@given(pods, st.data())
def test_deciding_is_repeatable_and_waits_are_in_the_future(pod: dict[str, Any], data: st.DataObject) -> None:
    for node in live(pod, data.draw, turns=15):
        first, second = decide(pod, node.record, node.now), decide(pod, node.record, node.now)
        assert first == second
        assert first.wake_at > node.now
        known = {entry["name"] for entry in [*init_containers(pod), *main_containers(pod)]}
        assert set(first.start) <= known
        assert len(set(first.start)) == len(first.start)
