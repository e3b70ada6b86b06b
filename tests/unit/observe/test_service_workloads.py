"""How many pods of a Deployment count, and what is said about those that do not get ready."""

import json
from typing import Any

import pytest

from diffusion_operator.observe.service_workloads import Trouble, WorkloadFacts, observe_workload, pod_trouble
from service_simulation import container_ended, container_waiting


def deployment(generation: int = 2, seen: int = 2, **status: Any) -> dict[str, Any]:
    counted = {"replicas": 3, "readyReplicas": 3, "updatedReplicas": 3, "availableReplicas": 3, **status}
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": 3},
        "status": {"observedGeneration": seen, **counted},
    }


def pod(*statuses: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": metadata, "status": {"containerStatuses": list(statuses)}}


def test_a_deployment_whose_controller_is_behind_has_nothing_available() -> None:
    assert observe_workload(deployment(), ()).serves(3)
    assert not observe_workload(deployment(generation=3), ()).serves(3)


def test_pods_of_an_older_template_do_not_count() -> None:
    assert observe_workload(deployment(updatedReplicas=1), ()).available == 1


def test_it_serves_only_the_number_that_was_asked_for() -> None:
    facts = WorkloadFacts(desired=2, current=2, ready=2, available=2)
    assert facts.serves(2)
    assert not facts.serves(1), "the Deployment was not yet told to be smaller"
    assert not facts.serves(3)


def test_a_ready_container_has_no_trouble_whatever_it_went_through() -> None:
    assert pod_trouble(pod({**container_ended(1), "ready": True})) is None


def test_one_crash_may_be_an_accident() -> None:
    assert pod_trouble(pod(container_ended(1, restarts=1))) is None
    assert pod_trouble(pod(container_ended(1, restarts=2))) is not None


def test_a_refusal_is_believed_at_once() -> None:
    words = json.dumps({"reason": "SamplerRefused", "message": "Euler goes with Flow", "path": "spec.sampling.sampler"})
    trouble = pod_trouble(pod(container_ended(64, words, restarts=0)))
    assert trouble == Trouble("SamplerRefused", "spec.sampling.sampler: Euler goes with Flow")


@pytest.mark.parametrize("words", ["", "not JSON", '{"reason": 3}', '{"reason": "two words", "message": "m"}'])
def test_unreadable_last_words_still_give_a_reason_that_a_condition_may_have(words: str) -> None:
    trouble = pod_trouble(pod(container_ended(64, words)))
    assert trouble is not None
    assert trouble.reason == "ConfigurationRefused"


def test_the_sentence_does_not_change_between_pull_and_back_off() -> None:
    said = {pod_trouble(pod(container_waiting(reason, reason))) for reason in ("ErrImagePull", "ImagePullBackOff")}
    assert len(said) == 1


def test_a_container_in_the_middle_of_a_restart_is_judged_as_before() -> None:
    backing_off = container_ended(64)
    running_again = {**backing_off, "state": {"running": {}}}
    assert pod_trouble(pod(running_again)) == pod_trouble(pod(backing_off))


def test_pods_on_their_way_out_say_nothing() -> None:
    leaving = pod(container_ended(64), deletionTimestamp="2026-01-01T00:00:00Z")
    assert observe_workload(deployment(), (leaving,)).trouble is None


def test_a_refusal_says_more_than_a_crash() -> None:
    pods = (pod(container_ended(1)), pod(container_ended(64)), pod(container_waiting("ErrImagePull")))
    trouble = observe_workload(deployment(), pods).trouble
    assert trouble is not None
    assert trouble.reason == "ConfigurationRefused"


def test_a_deployment_that_does_not_get_on_says_so() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    trouble = observe_workload(deployment(conditions=[late]), ()).trouble
    assert trouble is not None
    assert trouble.reason == "ProgressDeadlineExceeded"


@pytest.mark.parametrize("count", [-1, "many", None, 1.5, True])
def test_nonsense_in_counts_reads_as_none(count: object) -> None:
    assert observe_workload(deployment(readyReplicas=count), ()).ready == 0
