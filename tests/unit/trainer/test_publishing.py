"""The end of a run: its model version is published, or it is said why it could not be."""

import concurrent.futures
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from deadline import wait_until
from diffusion_contract.agent_messages import PublishedVersion
from diffusion_trainer import finish, live_config
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.process_messages import ProcessUpdate
from diffusion_trainer.publication import publish_checkpoint
from trainer_in_process import EVERY_FOUR, SHORT, in_the_end, train_here
from trainer_workers import run_document

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_models_volume_that_cannot_be_written_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "_RETRY_SECONDS", 0.05)
    (tmp_path / "models").write_text("a file where the volume should be")

    def repair_when_told(update: ProcessUpdate, inbox: Inbox) -> None:
        if update.message and "cannot be written" in update.message:
            (tmp_path / "models").unlink(missing_ok=True)

    code, said = train_here(tmp_path, repair_when_told, training=SHORT, checkpoint=EVERY_FOUR)
    assert code == 0
    assert any(update.message and "cannot be written" in update.message for update in said)
    assert in_the_end(said).published is not None
    assert in_the_end(said).message == ""
    states = [update.state for update in said]
    assert 8 in [update.step for update in said[: states.index("Publishing")]], "it has told that all steps are made"


def test_a_models_volume_with_something_else_on_it_is_refused_and_not_tried_for_ever(tmp_path: Path) -> None:
    layout = tmp_path / "models/models/tiny"
    layout.mkdir(parents=True)
    (layout / "index.json").write_text("[]")
    code, said = train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR)
    assert (code, in_the_end(said).refused_path) == (64, "spec.publish")
    assert "index.json is not an OCI image index" in (in_the_end(said).message or "")
    assert "volume models" in (in_the_end(said).message or "")


def test_a_worker_that_publishes_hears_that_it_must_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def fail_late(*_given: object) -> None:
        over.wait(60)
        raise OSError("when nobody waits any more")

    monkeypatch.setattr(finish, "publish_checkpoint", fail_late)

    def end_while_publishing(update: ProcessUpdate, inbox: Inbox) -> None:
        if update.state == "Publishing":
            inbox.take(inbox.orders.model_copy(update={"terminating": True}))

    code, said = train_here(tmp_path, end_while_publishing, training=SHORT, checkpoint=EVERY_FOUR)
    assert code == 75
    committed = in_the_end(said).committed
    assert committed is not None
    assert committed.step == 8
    told = len(said)
    over.set()
    wait_until(lambda: "finish" not in {thread.name for thread in threading.enumerate()}, 20, "the thread ends")
    assert len(said) == told


class JustInTime(concurrent.futures.Future[finish.Outcome]):
    """Comes to its end in the moment in which somebody has waited long enough."""

    def result(self, timeout: float | None = None) -> finish.Outcome:
        if timeout is not None:
            self.set_result({"done": None})
            raise TimeoutError
        return super().result()


def test_work_that_ends_as_the_wait_for_it_does_has_not_failed() -> None:
    work = finish.InBackground(lambda: {"done": None})
    work._future = JustInTime()
    assert work.outcome(0) is None


def test_a_timeout_of_the_work_itself_is_raised() -> None:
    def time_out() -> finish.Outcome:
        raise TimeoutError("the volume does not answer")

    with pytest.raises(TimeoutError, match="does not answer"):
        finish.InBackground(time_out).outcome(10)


def test_a_fault_of_our_own_while_publishing_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(finish, "publish_checkpoint", fail)
    code, said = train_here(tmp_path, training=SHORT, checkpoint=EVERY_FOUR)
    assert (code, in_the_end(said).message) == (1, "KeyError: 'a bug'")


def test_a_target_that_is_raised_while_the_run_publishes_is_the_new_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_config, "_LOOK_SECONDS", 0.0)
    goes_on, publish = threading.Event(), publish_checkpoint

    def publish_slowly(*given: Any) -> PublishedVersion:
        goes_on.wait(60)
        return publish(*given)

    def raise_target(update: ProcessUpdate, _inbox: Inbox) -> None:
        if update.state == "Publishing" and not goes_on.is_set():
            (tmp_path / "new.json").write_text(json.dumps(run_document(training={**SHORT, "targetSteps": 11})))
            (tmp_path / "new.json").rename(tmp_path / "run.json")
        if update.step is not None and update.step > 8:
            goes_on.set()

    monkeypatch.setattr(finish, "publish_checkpoint", publish_slowly)
    code, said = train_here(tmp_path, raise_target, training=SHORT, checkpoint=EVERY_FOUR)
    assert code == 0
    known = in_the_end(said)
    published, committed = known.published, known.committed
    assert published is not None
    assert committed is not None
    assert published.step == committed.step == 11
