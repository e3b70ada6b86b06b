"""The invariants of plan/membership.py, along whole histories of what a few workers may say and suffer."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_operator.observe.training_history import Rendezvous
from diffusion_operator.observe.training_world import TrainingWorld
from diffusion_operator.plan.membership import Bounds, in_trouble, next_rendezvous, standing, stop
from world_builders import NOW, TWO_POOLS, node, pod, record, training_status, world

UIDS = ("a", "b", "c", "d")
POOLS = {"a": "base", "b": "base", "c": "spot", "d": "spot"}
STATES = ("Starting", "Ready", "Training", "Regrouping", "Publishing", "Leaving", "Finished", "Failed")
THOUSANDS = settings(max_examples=300, deadline=None)


@st.composite
def workers(draw: st.DrawFn, uid: str) -> dict[str, Any]:
    """What one worker is at one moment."""
    return {
        "uid": uid,
        "state": draw(st.sampled_from((*STATES, *["Training"] * 4, None))),
        "connected": draw(st.sampled_from([True, True, True, False])),
        "generation": draw(st.integers(0, 4)),
        "broken": draw(st.sampled_from([None, None, None, 1, 2, 3])),
        "exit_code": draw(st.sampled_from([None] * 6 + [0, 1, 75])),
        "deleting": draw(st.sampled_from([False, False, False, True])),
        "node": draw(st.sampled_from(["fine", "fine", "fine", "going", "dead"])),
    }


@st.composite
def moments(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What each worker is at one moment; a worker that is not there is missing."""
    return [draw(workers(uid)) for uid in draw(st.lists(st.sampled_from(UIDS), unique=True, min_size=1))]


histories = st.tuples(st.integers(1, 2), st.integers(2, 4), st.lists(moments(), min_size=1, max_size=8))


def seen_as(moment: list[dict[str, Any]]) -> TrainingWorld:
    """The facts of a moment."""
    pods = [
        pod(one["uid"], pool=POOLS[one["uid"]], node=one["node"], exit_code=one["exit_code"], deleting=one["deleting"])
        for one in moment
    ]
    said = [
        record(one["uid"], connected=one["connected"], state=one["state"], generation=one["generation"],
               broken=one["broken"])
        for one in moment
        if one["state"] is not None
    ]  # fmt: skip
    nodes = {"going": node("karpenter.sh/disrupted"), "dead": node("node.kubernetes.io/unreachable")}
    return world(*pods, spec=TWO_POOLS, status=training_status(), records=tuple(said), nodes=nodes)


def check(before: Rendezvous, after: Rendezvous, seen: TrainingWorld, bounds: Bounds) -> None:
    """The invariants between two rendezvous that are stored one after the other."""
    assert 0 <= after.generation - before.generation <= 1
    if after.generation == before.generation:
        assert after.members in (before.members, ())
    stands = {worker.pod.uid: standing(worker, in_trouble(before, seen.workers)) for worker in seen.workers}
    joined = after.uids - before.uids
    assert all(stands[uid] == "Ready" for uid in joined)
    assert not (before.stop and joined)
    if after.generation > before.generation:
        assert len(after.members) <= bounds.maximum
        assert after.stop or len(after.members) >= bounds.minimum
    assert after.stop or not before.stop, "a stop was taken back"


@THOUSANDS
@given(histories, st.none() | st.integers(0, 7))
def test_the_invariants_hold_along_every_history(
    history: tuple[int, int, list[list[dict[str, Any]]]], stopped_at: int | None
) -> None:
    minimum, maximum, steps = history
    bounds, current = Bounds(minimum, maximum, ("base", "spot")), Rendezvous()
    for number, moment in enumerate(steps):
        now, seen = NOW + timedelta(seconds=number + 1), seen_as(moment)
        if number == stopped_at and current.members:
            current = stop(current, "Suspended", now)
        after = next_rendezvous(current, seen.workers, bounds, 10, now)
        check(current, after, seen, bounds)
        settled = next_rendezvous(after, seen.workers, bounds, 10, now)
        check(after, settled, seen, bounds)
        current = settled


@THOUSANDS
@given(moments())
def test_the_order_in_which_workers_are_seen_changes_nothing(moment: list[dict[str, Any]]) -> None:
    bounds, first = Bounds(1, 3, ("base", "spot")), seen_as(moment)
    second = replace(first, workers=tuple(reversed(first.workers)))
    one, other = (next_rendezvous(Rendezvous(), seen.workers, bounds, 10, NOW) for seen in (first, second))
    assert (one.members, one.leaving, one.generation) == (other.members, other.leaving, other.generation)
