"""`status.preemptions`: who was taken away, by whom, with how much notice, and what it cost."""

from datetime import timedelta
from typing import Any

import pytest

from decided_trainings import BOTH, COMMITTED, JOBS, PAIR, decided, status_of
from diffusion_contract.agent_messages import Recovery
from diffusion_operator.plan.plan import Plan
from world_builders import NOW, TWO_POOLS, job, node, pod, record, spec_with, training_status


def preempted(**facts: Any) -> Plan:
    return decided(*PAIR, **({"status": training_status("a", "b"), "records": BOTH} | facts))


def test_a_preemption_is_told_with_its_cost() -> None:
    noticed = {"n2": node("karpenter.sh/disrupted")}
    first = status_of(preempted(nodes=noticed))
    (entry,) = first["preemptions"]
    assert entry == {
        "time": "2026-01-01T11:59:50Z",
        "pod": "b",
        "uid": "b",
        "node": "n2",
        "source": "karpenter.sh/disrupted",
        "generation": 2,
    }
    recovered = record("a", generation=2, step=8, recovery=Recovery(generation=2, lost_steps=0, seconds=0.4321))
    (costed,) = status_of(preempted(nodes=noticed, status=first, records=(recovered, BOTH[1])))["preemptions"]
    assert (costed["lostSteps"], costed["recoverySeconds"]) == (0, 0.432)


TAKEN = "aws-node-termination-handler/spot-itn"


def test_the_notice_is_the_time_from_the_announcement_to_the_end_of_the_node() -> None:
    annotations = {"diffusion.dev/terminates-at": "2026-01-01T12:00:05Z"}
    noticed = {**node(TAKEN), "metadata": {"annotations": annotations}}
    (entry,) = status_of(preempted(nodes={"n2": noticed}))["preemptions"]
    assert (entry["time"], entry["noticeSeconds"]) == ("2026-01-01T11:59:50Z", 15)


def test_the_notice_is_filled_in_when_the_end_becomes_known() -> None:
    noticed = {"n2": node(TAKEN)}
    first = status_of(preempted(nodes=noticed))
    assert "noticeSeconds" not in first["preemptions"][0]
    deleting = pod("b", pool="spot", node="n2")
    deleting["metadata"] |= {"deletionTimestamp": "2026-01-01T12:00:20Z", "deletionGracePeriodSeconds": 15}
    (entry,) = status_of(decided(*JOBS, pod("a"), deleting, status=first, records=BOTH, nodes=noticed))["preemptions"]
    assert entry["noticeSeconds"] == 30


def test_a_deleted_pods_notice_is_its_grace_from_the_request_on() -> None:
    deleting = (*JOBS, pod("a"), pod("b", pool="spot", node="n2", deleting=True))
    (entry,) = status_of(decided(*deleting, status=training_status("a", "b"), records=BOTH))["preemptions"]
    assert (entry["time"], entry["noticeSeconds"], entry["source"]) == ("2026-01-01T11:58:45Z", 15, "PodDeleted")


def test_a_lost_worker_that_turns_out_to_have_crashed_is_no_preemption() -> None:
    broken = record("a", state="Regrouping", generation=0, broken=1, step=7, received=NOW - timedelta(seconds=1))
    first = status_of(preempted(records=(broken, record("b", connected=False))))
    assert [entry["source"] for entry in first["preemptions"]] == ["ConnectionLost"]
    crashed = (*JOBS, pod("a"), pod("b", pool="spot", node="n2", exit_code=139))
    second = status_of(decided(*crashed, status=first, records=(BOTH[0],)))
    assert (second.get("preemptions"), second["restarts"]["counted"]) == (None, 1)


FAILED: dict[str, Any] = {"state": "Failed", "generation": 1, "step": 7}


def test_a_run_that_fails_by_itself_is_no_preemption() -> None:
    both = (record("a", **FAILED), record("b", **FAILED))
    first = status_of(preempted(records=both))
    ended = (*JOBS, pod("a", exit_code=93), pod("b", pool="spot", node="n2"))
    last = status_of(decided(*ended, status=first, records=both))
    assert (first.get("preemptions"), last.get("preemptions"), last["phase"]) == (None, None, "Failed")


def test_a_peer_that_was_lost_is_no_preemption_once_it_is_known_to_have_refused() -> None:
    broken = record("a", state="Regrouping", generation=0, broken=1, step=7, received=NOW - timedelta(seconds=1))
    first = status_of(preempted(records=(broken, record("b", connected=False))))
    refused = (*JOBS, pod("a"), pod("b", pool="spot", node="n2", exit_code=93))
    last = status_of(decided(*refused, status=first, records=(BOTH[0],)))
    assert [entry["source"] for entry in first["preemptions"]] == ["ConnectionLost"]
    assert (last.get("preemptions"), last["phase"]) == (None, "Failed")


def test_who_fails_while_it_is_taken_away_is_a_preemption() -> None:
    plan = preempted(records=(BOTH[0], record("b", **FAILED)), nodes={"n2": node(TAKEN)})
    assert [entry["source"] for entry in status_of(plan)["preemptions"]] == [TAKEN]


def test_a_lost_worker_whose_node_died_keeps_its_entry_with_the_cause() -> None:
    broken = record("a", state="Regrouping", generation=0, broken=1, step=7, received=NOW - timedelta(seconds=1))
    first = status_of(preempted(records=(broken, record("b", connected=False))))
    gone = (*JOBS, pod("a"), pod("b", pool="spot", node="n2", exit_code=137, disruption="DeletionByPodGC"))
    second = status_of(decided(*gone, status=first, records=(BOTH[0],)))
    assert [entry["source"] for entry in second["preemptions"]] == ["DeletionByPodGC"]
    assert second["restarts"] == {"counted": 0, "disruptions": 1}


def test_a_worker_that_never_told_its_end_is_one_disruption_once_its_pod_is_gone() -> None:
    broken = record("a", state="Regrouping", generation=0, broken=1, step=7, received=NOW - timedelta(seconds=1))
    lost = status_of(preempted(records=(broken, record("b", connected=False))))
    dead = {"n2": node("node.kubernetes.io/unreachable")}
    zombie = status_of(decided(*PAIR, status=lost, records=(BOTH[0], record("b", connected=False)), nodes=dead))
    assert [entry["source"] for entry in zombie["preemptions"]] == ["node.kubernetes.io/unreachable"]
    assert zombie["restarts"]["disruptions"] == 0
    gone = status_of(decided(*JOBS, pod("a"), status=zombie, records=(BOTH[0],)))
    again = status_of(decided(*JOBS, pod("a"), status=gone, records=(BOTH[0],)))
    assert (gone["restarts"]["disruptions"], again["restarts"]["disruptions"]) == (1, 1)
    over = status_of(decided(job("base"), job("spot"), pod("a", exit_code=75), status=again))
    assert (over["attempt"], over["restarts"]["disruptions"], over["recordedPods"]) == (2, 2, ["a", "b"])
    assert status_of(decided(status=over))["restarts"]["disruptions"] == 2


def test_a_worker_that_nobody_wants_any_more_was_not_preempted() -> None:
    children = (job("base", active=1), pod("a"), pod("b", index=1, deleting=True))
    found = status_of(decided(*children, status=training_status("a", "b"), records=BOTH, spec=spec_with()))
    assert (found.get("preemptions"), found["restarts"]["disruptions"]) == (None, 0)


def test_a_worker_of_a_pool_that_was_dropped_was_not_preempted() -> None:
    without = spec_with(TWO_POOLS, workers__max=1, pools=[{"name": "base", "replicas": 1}, {"name": "spot", "max": 0}])
    children = (job("base", active=1), pod("a"), pod("b", pool="spot", node="n2", deleting=True))
    first = status_of(decided(*children, status=training_status("a", "b"), records=BOTH, spec=without))
    assert (first.get("preemptions"), first["restarts"]["disruptions"]) == (None, 0)
    assert first["rendezvous"]["leaving"] == ["b"]
    gone = status_of(decided(*children[:2], status=first, records=BOTH[:1], spec=without))
    assert (gone.get("preemptions"), gone["restarts"]["disruptions"]) == (None, 0)


def test_a_worker_whose_job_was_deleted_by_hand_was_taken_away() -> None:
    children = (job("base", active=1), pod("a"), pod("b", pool="spot", node="n2", deleting=True))
    found = status_of(decided(*children, status=training_status("a", "b"), records=BOTH))
    assert [entry["source"] for entry in found["preemptions"]] == ["PodDeleted"]


def test_only_the_newest_ten_preemptions_are_kept() -> None:
    old = [
        {"time": "2026-01-01T00:00:00Z", "uid": f"u{n}", "pod": f"u{n}", "source": "x", "generation": 1}
        for n in range(10)
    ]
    status = training_status("a", "b", preemptions=old)
    entries = status_of(preempted(status=status, nodes={"n2": node("karpenter.sh/disrupted")}))["preemptions"]
    assert [entries[0]["uid"], entries[-1]["uid"], len(entries)] == ["u1", "b", 10]


def test_a_crowd_that_leaves_at_once_fills_the_list_once() -> None:
    uids = [f"w{number:02}" for number in range(14)]
    wide = spec_with(workers={"min": 1, "max": 14})
    children = (job("base", size=14, active=14), *(pod(uid, index=n) for n, uid in enumerate(uids)))
    records = tuple(record(uid, generation=1, step=7, state="Finished" if uid == "w00" else "Training") for uid in uids)
    facts = {"records": records, "nodes": {"n1": node(TAKEN)}, "spec": wide}
    first = status_of(decided(*children, status=training_status(*uids), **facts))
    assert [entry["uid"] for entry in first["preemptions"]] == uids[:10], "no entry makes room for one that is as old"
    assert status_of(decided(*children, status=first, **facts)) == first


def test_where_too_few_are_left_the_cost_is_that_of_the_next_generation() -> None:
    both = spec_with(TWO_POOLS, workers__min=2)
    earlier = record("a", generation=1, step=7, recovery=Recovery(generation=1, lost_steps=0, seconds=0.3))
    plan = preempted(nodes={"n2": node(TAKEN)}, records=(earlier, BOTH[1]), spec=both)
    (entry,) = status_of(plan)["preemptions"]
    assert (status_of(plan)["rendezvous"]["stop"], entry["generation"]) == ("TooFewWorkers", 2)
    assert "lostSteps" not in entry


@pytest.mark.parametrize(
    ("committed", "lost"), [(None, 7), ({**COMMITTED, "step": 4}, 3), ({**COMMITTED, "step": 7}, 0)]
)
def test_where_nobody_is_left_the_cost_is_the_way_back_to_the_newest_checkpoint(
    committed: dict[str, Any] | None, lost: int
) -> None:
    checkpoint = {} if committed is None else {"lastCommitted": committed}
    only = {"status": training_status("a", checkpoint=checkpoint), "records": (record("a", step=7, leaving=True),)}
    leaves = status_of(decided(*JOBS, pod("a", deleting=True), **only))
    assert "lostSteps" not in leaves["preemptions"][0]
    left = (job("base"), job("spot"), pod("a", exit_code=75, deleting=True))
    over = status_of(decided(*left, status=leaves, records=(record("a", step=7, state="Leaving"),)))
    assert (over["attempt"], over["preemptions"][0]["lostSteps"]) == (2, lost)

    grown = Recovery(generation=3, lost_steps=0, seconds=0.3)
    again = (record("c", attempt=2, generation=3, step=9, recovery=grown),)
    (entry,) = status_of(decided(*JOBS, pod("c", attempt=2), status=over, records=again))["preemptions"]
    assert entry == over["preemptions"][0], "what the next attempt goes through is not its cost"
