"""Raw objects and reports become facts; whatever is broken in them becomes "unknown", never an error."""

from typing import Any

import pytest

from diffusion_contract.agent_messages import RouterReport
from diffusion_operator.observe.agent_reports import AgentRecord
from diffusion_operator.observe.nodes import observe_node
from diffusion_operator.observe.pods import observe_pod, parse_last_words
from diffusion_operator.observe.snapshot import Reference
from diffusion_operator.observe.training_history import read_history
from diffusion_operator.observe.training_world import references
from world_builders import MINIMAL, NOW, custom_resource, job, node, pod, record, spec_with, training_status, world

DIGEST = "sha256:" + "b" * 64


def test_workers_and_jobs_are_those_of_the_stored_attempt() -> None:
    seen = world(
        job(attempt=1), job(attempt=2), pod("old", attempt=1), pod("new", attempt=2), status=training_status(attempt=2)
    )
    assert [one.pod.name for one in seen.workers] == ["new"]
    assert [one.attempt for one in seen.jobs] == [2]
    assert [one.attempt for one in seen.previous] == [1]


def test_a_job_without_a_readable_attempt_is_of_none() -> None:
    broken = job()
    broken["metadata"]["labels"]["diffusion.dev/attempt"] = "two"
    (found,) = world(broken, status=training_status()).previous
    assert found.attempt is None


def test_a_report_of_another_attempt_or_kind_is_not_heard() -> None:
    other = AgentRecord("b", RouterReport(), NOW)
    seen = world(pod("a"), pod("b"), status=training_status(), records=(record("a", attempt=7), other))
    assert [(one.report, one.connected) for one in seen.workers] == [(None, None), (None, None)]


def test_jobs_tell_how_they_ended() -> None:
    complete = job(conditions=[{"type": "Complete", "status": "True"}])
    failed = job("spot", conditions=[{"type": "FailureTarget", "status": "True", "message": "exit code 64"}])
    seen = world(complete, failed, job("third"), status=training_status())
    assert {one.pool: one.outcome for one in seen.jobs} == {"base": "Complete", "spot": "Failed", "third": "Active"}
    assert next(one.message for one in seen.jobs if one.pool == "spot") == "exit code 64"


def test_claims_that_the_user_makes_are_looked_up() -> None:
    spec = spec_with(checkpoint__storage={"existingClaim": "mine"}, publish={"existingClaim": "mine"})
    (wanted,) = references(custom_resource(spec))
    assert wanted == Reference("v1", "PersistentVolumeClaim", "team", "mine")
    assert references(custom_resource(MINIMAL)) == ()
    assert references({"spec": {"checkpoint": "nonsense"}}) == ()
    assert world(spec=spec, referenced={wanted: None}).missing_claims == ("mine",)


def test_a_spec_that_is_refused_is_a_fact() -> None:
    seen = world(spec=spec_with(nonsense=1))
    assert seen.training is None
    assert str(seen.refused) == "spec.nonsense: Extra inputs are not permitted"


def test_a_pods_end_is_read_with_its_last_words() -> None:
    message = '{"reason":"DatasetMissing","message":"no such file","path":"spec.dataset.uri"}'
    facts = observe_pod(pod("a", exit_code=64, message=message), "trainer")
    assert (facts.exit_code, facts.terminal) == (64, True)
    assert facts.last_words is not None
    assert facts.last_words.path == "spec.dataset.uri"


def test_last_words_that_are_not_ours_are_none() -> None:
    for text in ("", "Traceback (most recent call last)", "{}", '{"reason": 3}', "[]", '{"reason":"x","extra":1}'):
        assert parse_last_words(text) is None


def test_a_pods_other_signs_are_read() -> None:
    waiting = observe_pod(pod("a", waiting={"reason": "ImagePullBackOff", "message": "no such image"}), "trainer")
    assert (waiting.waiting, waiting.waiting_message, waiting.terminal) == ("ImagePullBackOff", "no such image", False)
    deleting = observe_pod(pod("a", deleting=True, disruption="EvictionByEvictionAPI"), "trainer")
    assert (deleting.deleting, deleting.grace_seconds, deleting.disruption) == (True, 15, "EvictionByEvictionAPI")
    unplaced = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert observe_pod(pod("a", node="", conditions=[unplaced]), "trainer").unschedulable == "0/3 nodes are available"
    assert observe_pod({}, "trainer").phase == "Pending"
    assert observe_pod({"status": {"phase": "Odd"}}, "trainer").phase == "Unknown"


def test_nodes_announce_their_end_by_taint_or_condition() -> None:
    assert observe_node(node()).state == "Fine"
    assert observe_node(node("karpenter.sh/disrupted")).state == "Noticed"
    assert observe_node(node(condition="SpotInterruption")).source == "SpotInterruption"
    assert observe_node(node("node.kubernetes.io/unreachable")).state == "Unreachable"
    assert observe_node(node("example.com/other")).state == "Fine"
    assert observe_node(None).state == "Unknown"
    silent = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    assert observe_node(silent).state == "Unreachable"


def test_a_notice_that_is_older_than_the_pod_is_none_to_it() -> None:
    late = pod("a")
    late["metadata"]["creationTimestamp"] = "2026-01-01T11:59:55Z"
    early = pod("b")
    early["metadata"]["creationTimestamp"] = "2026-01-01T11:00:00Z"
    nodes = {"n1": node("karpenter.sh/disrupted", time="2026-01-01T11:59:50Z")}
    seen = world(late, early, status=training_status(), nodes=nodes)
    assert {one.pod.name: one.noticed for one in seen.workers} == {"a": False, "b": True}


def test_a_stored_status_is_read_back() -> None:
    status = training_status(
        "a",
        "b",
        generation=4,
        attempt=2,
        rendezvous={"leaving": ["c"], "resumeStep": 10, "stop": "Suspended", "stopSince": "2026-01-01T00:00:00Z"},
        restarts={"counted": 2, "disruptions": 3, "lastCrashTime": "2026-01-01T00:00:00Z"},
        recordedPods=["x"],
        checkpoint={"lastCommitted": {"step": 10, "digest": DIGEST, "time": "2026-01-01T00:00:00Z"}},
        preemptions=[{"time": "t", "uid": "c", "generation": 3, "recoverySeconds": 1, "lostSteps": 0}],
    )
    history = read_history(custom_resource(MINIMAL, status))
    assert (history.attempt, history.counted, history.disruptions, history.recorded) == (2, 2, 3, frozenset("x"))
    rendezvous = history.rendezvous
    assert (rendezvous.generation, [one.uid for one in rendezvous.members]) == (4, ["a", "b"])
    assert (rendezvous.leaving, rendezvous.resume_step, rendezvous.stop) == (("c",), 10, "Suspended")
    assert history.committed is not None
    assert history.committed.step == 10
    assert history.preemptions[0].recovery_seconds == 1.0


def test_a_status_that_somebody_broke_reads_as_nothing() -> None:
    broken = {
        "phase": 3,
        "attempt": "x",
        "generation": -2,
        "rendezvous": [],
        "restarts": {"counted": None},
        "recordedPods": "all",
        "checkpoint": {"lastCommitted": {"step": "ten"}},
        "preemptions": [1, {}],
        "published": {"reference": 1},
    }
    history = read_history(custom_resource(MINIMAL, broken))
    assert (history.phase, history.attempt, history.rendezvous.generation, history.counted) == ("", 0, 0, 0)
    assert (history.recorded, history.committed, history.published) == (frozenset(), None, None)


def timeless(*taints: str, condition: str = "", time: str = "2026-01-01T11:59:50Z") -> dict[str, Any]:
    """A node with taints of which nobody says when they came, and perhaps a condition."""
    return {**node(condition=condition, time=time), "spec": {"taints": [{"key": key} for key in taints]}}


def test_a_taint_without_a_time_takes_that_of_the_condition_beside_it() -> None:
    both = observe_node(timeless("aws-node-termination-handler/spot-itn", condition="SpotInterruption"))
    assert (both.source, both.since) == ("aws-node-termination-handler/spot-itn", "2026-01-01T11:59:50Z")
    assert observe_node(timeless("karpenter.sh/disruption")).since == ""


def test_a_notice_without_a_time_is_one_to_those_who_have_trained_there() -> None:
    nodes = {"n1": timeless("cloud.google.com/impending-node-termination")}
    assert [one.noticed for one in world(pod("a"), status=training_status(), nodes=nodes).workers] == [False]
    assert [one.noticed for one in world(pod("a"), status=training_status("a"), nodes=nodes).workers] == [True]
    left = training_status(preemptions=[{"time": "2026-01-01T11:59:50Z", "uid": "a"}])
    assert [one.noticed for one in world(pod("a"), status=left, nodes=nodes).workers] == [True]


@pytest.mark.parametrize("taint", ["node.cloudprovider.kubernetes.io/shutdown", "node.kubernetes.io/out-of-service"])
def test_a_machine_that_is_off_does_not_answer(taint: str) -> None:
    assert observe_node(node(taint)).state == "Unreachable"
