"""What a pod reports when its processes differ, and which code and words it ends with."""

import pytest

from diffusion_contract.agent_messages import CheckpointReference, PublishedVersion, TrainerReport
from diffusion_trainer.process_messages import ProcessUpdate
from diffusion_trainer.worker_report import exit_code_for, is_urgent, last_words, merged, worker_report

DIGEST = "sha256:" + "b" * 64


def known(**fields: object) -> dict[str, object]:
    return merged({}, ProcessUpdate.model_validate(fields))


def reference(step: int) -> CheckpointReference:
    return CheckpointReference(step=step, digest=DIGEST, time="2026-01-01T00:00:00Z")


def test_a_pod_is_where_its_slowest_process_is() -> None:
    processes = [
        known(state="Training", generation=3, step=7, loss=0.5),
        known(state="Regrouping", generation=0, step=6, broken=3, committed=reference(5)),
    ]
    report = worker_report(processes, attempt=1, ready=True, terminating=False)
    assert (report.state, report.generation, report.broken, report.step) == ("Regrouping", 0, 3, 7)
    assert report.loss == 0.5
    assert report.committed == reference(5)


def test_before_the_libraries_are_there_it_is_starting() -> None:
    assert worker_report([], 0, ready=False, terminating=False).state == "Starting"
    leaving = worker_report([], 0, ready=False, terminating=True)
    assert leaving.leaving


def test_terminating_is_leaving_while_it_still_trains() -> None:
    report = worker_report([known(state="Training", generation=1, step=1)], 0, ready=True, terminating=True)
    assert (report.state, report.leaving) == ("Training", True)


def test_an_update_replaces_only_what_it_sets_also_by_nothing() -> None:
    before = known(state="Training", broken=2, step=4)
    after = merged(before, ProcessUpdate.model_validate_json(ProcessUpdate(broken=None, generation=3).to_packet()))
    assert after == {"state": "Training", "broken": None, "step": 4, "generation": 3}


def test_progress_can_wait_and_news_cannot() -> None:
    before = known(state="Training", step=4, loss=0.1)
    assert not is_urgent(before, ProcessUpdate(step=5, loss=0.2, samples_per_second=1, samples_seen=3))
    assert not is_urgent(before, ProcessUpdate(state="Training"))
    assert is_urgent(before, ProcessUpdate(state="Leaving"))
    assert is_urgent(before, ProcessUpdate(broken=1))
    assert is_urgent(before, ProcessUpdate(committed=reference(1)))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], None),
        ([0, 0], 0),
        ([0, 75], 75),
        ([64, -9], 64),
        ([75, 93], 93),
        ([1, 75], 1),
        ([-9], 137),
        ([-11, 75], 139),
    ],
)
def test_exit_codes(codes: list[int], expected: int | None) -> None:
    assert exit_code_for(codes) == expected


def test_the_last_words_hold_what_the_operator_must_know() -> None:
    published = PublishedVersion(reference=f"pvc://c/n@{DIGEST}", digest=DIGEST, step=9)
    report = TrainerReport(attempt=0, state="Finished", step=9, committed=reference(9), published=published)
    words = last_words(report, 0, "", None)
    assert (words.reason, words.step, words.committed, words.published) == ("Finished", 9, reference(9), published)
    refused = last_words(report, 64, "no", "spec.dataset.uri")
    assert (refused.reason, refused.path, refused.message) == ("ConfigurationRefused", "spec.dataset.uri", "no")
    assert last_words(report, 137, "", None).reason == "Crashed"
