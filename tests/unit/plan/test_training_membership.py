"""The next generation: who stays, who joins, who leaves, and when everybody stops."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from diffusion_operator.observe.training_history import Rendezvous
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.membership import Bounds, next_rendezvous, standing
from world_builders import NOW, TWO_POOLS, node, pod, record, training_status, world

BOUNDS = Bounds(minimum=1, maximum=2, pools=("base", "spot"))
PAIR = (pod("a"), pod("b", pool="spot", node="n2"))


def after(seen: TrainingWorld, bounds: Bounds = BOUNDS, seconds: float = 1.0) -> Rendezvous:
    return next_rendezvous(seen.history.rendezvous, seen.workers, bounds, 10, NOW + timedelta(seconds=seconds))


def running(*records: Any, children: Any = PAIR, members: tuple[str, ...] = ("a", "b"), **more: Any) -> TrainingWorld:
    """Two workers in generation 3, `records` on top of two that say all is well."""
    said = {one.pod_uid: one for one in (record("a", generation=3), record("b", generation=3))} | {
        one.pod_uid: one for one in records
    }
    known = tuple(one for uid, one in said.items() if uid in {child["metadata"]["uid"] for child in children})
    status = training_status(*members, generation=3)
    return world(*children, spec=TWO_POOLS, status=status, records=known, **more)


def uids(rendezvous: Rendezvous) -> list[str]:
    return [member.uid for member in rendezvous.members]


def test_nothing_changes_while_all_is_well() -> None:
    seen = running()
    assert after(seen) == seen.history.rendezvous


def test_a_start_waits_for_the_minimum() -> None:
    waiting = world(
        *PAIR, status=training_status(), records=(record("a", state="Ready"), record("b", state="Starting"))
    )
    assert not after(waiting, replace(BOUNDS, minimum=2)).members
    assert uids(after(waiting)) == ["a"]


def test_the_first_generation_is_one_more_than_the_last_of_the_earlier_attempt() -> None:
    seen = world(*PAIR, status=training_status(generation=7), records=(record("a", state="Ready"),))
    found = after(seen)
    assert (found.generation, found.resume_step) == (8, 10)


def test_base_comes_before_spot_whatever_their_names() -> None:
    children = (pod("z"), pod("a", pool="spot"))
    seen = world(*children, status=training_status(), records=(record("z", state="Ready"), record("a", state="Ready")))
    assert uids(after(seen)) == ["z", "a"]


def test_a_ready_worker_joins_at_once_where_there_is_room() -> None:
    seen = running(record("b", state="Ready", generation=0), members=("a",))
    found = after(seen)
    assert (found.generation, uids(found), found.why) == (4, ["a", "b"], "b joined")


def test_a_newcomer_never_becomes_the_master() -> None:
    seen = running(record("a", state="Ready", generation=0), members=("b",))
    assert uids(after(seen)) == ["b", "a"]


def test_nobody_joins_beyond_the_maximum() -> None:
    seen = running(children=(*PAIR, pod("c")), members=("a", "b"))
    assert after(seen) == seen.history.rendezvous


def test_nobody_joins_while_the_run_publishes() -> None:
    seen = running(record("a", state="Publishing"), record("b", state="Ready", generation=0), members=("a",))
    assert after(seen).generation == 3


@pytest.mark.parametrize(
    ("children", "said", "nodes", "why"),
    [
        ((PAIR[0], pod("b", node="n2", exit_code=1)), (), {}, "b is leaving: it ended with exit code 1"),
        ((PAIR[0],), (), {}, "b is leaving: its pod is gone"),
        ((PAIR[0], pod("b", node="n2", deleting=True)), (), {}, "b is leaving: its pod is being deleted"),
        (PAIR, (record("b", leaving=True),), {}, "b is leaving: it was told to end"),
        (
            PAIR,
            (),
            {"n2": node("karpenter.sh/disrupted")},
            "b is leaving: node n2 announced its end (karpenter.sh/disrupted)",
        ),
        (
            PAIR,
            (record("b", connected=False),),
            {"n2": node("node.kubernetes.io/unreachable")},
            "b is leaving: node n2 does not answer",
        ),
        (
            (PAIR[0], pod("b", node="n2", disruption="EvictionByEvictionAPI")),
            (),
            {},
            "b is leaving: its pod is being disrupted (EvictionByEvictionAPI)",
        ),
        (
            PAIR,
            (record("a", state="Regrouping", broken=3, generation=0), record("b", connected=False)),
            {},
            "b is leaving: its connection is lost",
        ),
    ],
)
def test_the_others_go_on_without_a_worker_that_is_lost_or_leaves(
    children: Any, said: Any, nodes: Any, why: str
) -> None:
    found = after(running(*said, children=children, nodes=nodes))
    assert (found.generation, uids(found), found.why) == (4, ["a"], why)


def test_who_leaves_is_named_while_it_lives() -> None:
    assert after(running(record("b", leaving=True))).leaving == ("b",)
    assert after(running(children=(PAIR[0], pod("b", node="n2", exit_code=75)))).leaving == ()


def test_a_lost_connection_alone_changes_nothing() -> None:
    assert after(running(record("b", connected=False))).generation == 3


def test_a_worker_that_has_not_been_heard_since_the_operator_started_stays() -> None:
    status = training_status("a", "b", generation=3)
    assert after(world(*PAIR, spec=TWO_POOLS, status=status)).generation == 3


def test_workers_that_lost_touch_with_each_other_regroup_as_they_are() -> None:
    found = after(running(record("a", broken=3, state="Regrouping", generation=0)))
    assert (found.generation, uids(found)) == (4, ["a", "b"])
    assert found.why == "the workers lost touch with each other"


def test_a_broken_generation_waits_a_moment_for_the_lost_connection_that_follows() -> None:
    assert after(running(record("a", broken=3, state="Regrouping", generation=0)), seconds=0.2).generation == 3


def test_a_failure_of_an_older_generation_is_old_news() -> None:
    assert after(running(record("a", broken=2))).generation == 3


def test_with_too_few_left_the_survivors_save_and_leave() -> None:
    seen = running(children=(PAIR[0], pod("b", node="n2", exit_code=1)))
    found = after(seen, replace(BOUNDS, minimum=2))
    assert (found.generation, uids(found), found.stop) == (4, ["a"], "TooFewWorkers")
    assert found.stop_since == "2026-01-01T12:00:01Z"


def test_that_one_has_failed_is_no_reason_until_a_peer_notices_it() -> None:
    failed = record("b", state="Failed", generation=3)
    seen = running(failed)
    assert after(seen) == seen.history.rendezvous
    found = after(running(failed, record("a", broken=3, state="Regrouping", generation=0)))
    assert (found.generation, uids(found), found.why) == (4, ["a"], "b is leaving: it failed")


def test_who_has_failed_is_in_no_further_generation() -> None:
    seen = running(record("a", state="Failed"), record("b", state="Ready", generation=0), members=("a",))
    assert uids(after(seen)) == ["b"]


def test_who_has_failed_is_not_told_to_save_with_the_others() -> None:
    seen = running(record("b", state="Failed"), record("a", broken=3, state="Regrouping", generation=0))
    found = after(seen, replace(BOUNDS, minimum=2))
    assert (found.generation, uids(found), found.leaving, found.stop) == (4, ["a"], (), "TooFewWorkers")


def test_where_all_have_failed_nobody_is_told_to_stop() -> None:
    for broken in (None, 3):
        seen = running(*(record(uid, state="Failed", generation=3, broken=broken) for uid in ("a", "b")))
        assert after(seen) == seen.history.rendezvous


def test_an_announced_end_that_leaves_too_few_stops_the_generation_as_it_is() -> None:
    found = after(running(record("b", leaving=True)), replace(BOUNDS, minimum=2))
    assert (found.generation, uids(found), found.stop) == (3, ["a", "b"], "TooFewWorkers")


def test_a_stopped_rendezvous_takes_nobody_in() -> None:
    seen = running(record("b", state="Ready", generation=0), members=("a",))
    stopped = replace(seen.history.rendezvous, stop="Suspended")
    assert next_rendezvous(stopped, seen.workers, BOUNDS, 10, NOW) == stopped


def test_where_nobody_lives_nobody_is_a_member() -> None:
    seen = running(children=(pod("a", exit_code=1), pod("b", exit_code=1)))
    assert after(seen) == Rendezvous(generation=3)


def test_silence_alone_empties_no_generation() -> None:
    silent = [record(uid, state="Regrouping", broken=3, generation=0, connected=False) for uid in ("a", "b")]
    seen = running(*silent)
    assert after(seen).members == seen.history.rendezvous.members


def test_the_end_of_a_run_starts_no_generation() -> None:
    seen = running(record("b", state="Finished"), children=(pod("a", exit_code=0), PAIR[1]))
    assert after(seen).generation == 3


def test_a_dead_machine_without_peers_is_lost_once_its_node_says_so() -> None:
    children = (pod("a"),)
    silent = record("a", connected=False)
    fine = running(silent, children=children, members=("a",))
    dead = running(silent, children=children, members=("a",), nodes={"n1": node("node.kubernetes.io/unreachable")})
    assert standing(fine.workers[0], trouble=False) == "Unknown"
    assert standing(dead.workers[0], trouble=False) == "Lost"
