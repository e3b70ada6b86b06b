"""How workers ended, and each end counted exactly once."""

from typing import Any

import pytest

from diffusion_operator.plan.training_restarts import count_restarts, ending
from world_builders import TWO_POOLS, job, node, pod, record, training_status, world

JOBS = (job("base"), job("spot"))


@pytest.mark.parametrize(
    ("child", "nodes", "status", "expected"),
    [
        (pod("a"), {}, {}, None),
        (pod("a", exit_code=0), {}, {}, "Done"),
        (pod("a", exit_code=64), {}, {}, "Refused"),
        (pod("a", exit_code=93), {}, {}, "Refused"),
        (pod("a", exit_code=1), {}, {}, "Crash"),
        (pod("a", exit_code=137), {}, {}, "Crash"),
        (pod("a", exit_code=137, ended="OOMKilled"), {}, {}, "Crash"),
        (pod("a", exit_code=137, ended="ContainerStatusUnknown"), {}, {}, "Disruption"),
        (pod("a", exit_code=75), {}, {}, "Disruption"),
        (pod("a", exit_code=137, disruption="DeletionByTaintManager"), {}, {}, "Disruption"),
        (pod("a", exit_code=137), {"n1": node("karpenter.sh/disrupted")}, {}, "Disruption"),
        (pod("a", exit_code=137), {"n1": node("node.kubernetes.io/unreachable")}, {}, "Disruption"),
        (pod("a", exit_code=137, deleting=True), {}, {}, "Disruption"),
        (pod("a", phase="Failed"), {}, {}, "Disruption"),
        (pod("a", exit_code=75), {}, {"stop": "Suspended"}, "Ours"),
        (pod("a", exit_code=1), {}, {"stop": "Suspended"}, "Crash"),
        (pod("a", exit_code=75, index=1), {}, {}, "Ours"),
        (pod("a", pool="gone", exit_code=75), {}, {}, "Ours"),
    ],
)
def test_an_end_means(child: Any, nodes: Any, status: Any, expected: str | None) -> None:
    seen = world(*JOBS, child, spec=TWO_POOLS, status=training_status("a", rendezvous=status), nodes=nodes)
    assert ending(seen.workers[0], seen) == expected


def test_a_node_that_is_gone_took_its_pod_along() -> None:
    seen = world(*JOBS, pod("a", exit_code=137), status=training_status("a"), nodes={"n1": None})
    assert ending(seen.workers[0], seen) == "Disruption"


def test_a_crash_is_counted_once() -> None:
    crashed = pod("a", exit_code=1)
    first = count_restarts(world(*JOBS, crashed, status=training_status("a")))
    assert (first.counted, first.recorded, first.last_crash) == (1, frozenset("a"), "2026-01-01T11:59:30Z")
    stored = training_status("a", restarts={"counted": 1}, recordedPods=["a"])
    second = count_restarts(world(*JOBS, crashed, status=stored))
    assert (second.counted, second.recorded, second.crashes) == (1, frozenset("a"), ())


def crashed_in(generation: int, *uids: str, **stored: Any) -> Any:
    """Two workers of generation 4 have crashed, which were last heard in `generation`."""
    status = training_status(*uids, generation=4, restarts=stored)
    records = tuple(record(uid, generation=generation) for uid in uids)
    crashed = (pod(uid, exit_code=1) for uid in uids)
    return count_restarts(world(*JOBS, *crashed, status=status, records=records))


def test_workers_that_crash_together_are_one_restart() -> None:
    together = crashed_in(4, "a", "b")
    assert (together.counted, together.crash_generation, len(together.crashes)) == (1, 4, 2)
    late = crashed_in(4, "c", counted=1, lastCrashGeneration=4)
    assert (late.counted, late.crash_generation, late.recorded) == (1, 4, frozenset("c"))
    again = crashed_in(5, "d", counted=1, lastCrashGeneration=4)
    assert (again.counted, again.crash_generation) == (2, 5)


def test_workers_that_crash_before_any_generation_are_one_restart_an_attempt() -> None:
    first = crashed_in(0, "a", "b")
    assert (first.counted, first.crash_generation) == (1, 0)
    assert crashed_in(0, "c", counted=1, lastCrashGeneration=0).counted == 1
    assert crashed_in(0, "c", counted=1).counted == 2


def test_what_is_recorded_is_forgotten_with_the_pod() -> None:
    stored = training_status("b", restarts={"counted": 1}, recordedPods=["a"])
    found = count_restarts(world(*JOBS, pod("b"), status=stored))
    assert (found.counted, found.recorded) == (1, frozenset())


def test_a_member_that_vanished_is_one_disruption_as_long_as_it_is_a_member() -> None:
    first = count_restarts(world(*JOBS, pod("a"), status=training_status("a", "b")))
    assert (first.disruptions, first.recorded) == (1, frozenset("b"))
    stored = training_status("a", "b", restarts={"disruptions": 1}, recordedPods=["b"])
    second = count_restarts(world(*JOBS, pod("a"), status=stored))
    assert (second.disruptions, second.recorded) == (1, frozenset("b"))


def test_a_member_that_vanished_while_the_run_stopped_is_none() -> None:
    stored = training_status("a", "b", rendezvous={"stop": "Suspended"})
    assert count_restarts(world(*JOBS, pod("a"), status=stored)).disruptions == 0
