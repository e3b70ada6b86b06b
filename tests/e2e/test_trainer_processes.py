"""Real worker processes of a training run, from start to publication, through what machines do to them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deadline import wait_until
from diffusion_contract.model_reference import parse_model_reference
from diffusion_registry.verification import read_model_version
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import find_newest
from trainer_workers import DIVERGING, LONG, NEVER, MakeRun, run_document


def test_two_workers_train_save_and_publish(make_run: MakeRun) -> None:
    run = make_run(minimum=2)
    workers = [run.start_worker(), run.start_worker()]
    assert [worker.wait_exit(60) for worker in workers] == [0, 0]
    last, *before = run.committed()
    assert (last, len(before)) == (20, 2), (
        "three are kept; one that was due while another was written came a step later"
    )
    words = workers[0].last_words()
    assert words["reason"] == "Finished"
    assert words["step"] == words["committed"]["step"] == 20
    reference = parse_model_reference(words["published"]["reference"])
    version = read_model_version(run.models, reference)
    assert version.lineage.checkpoint.digest == words["committed"]["digest"]
    assert version.lineage.samples_seen == 120
    assert json.loads((run.models / "models/tiny/index.json").read_text())["manifests"]


def test_workers_whose_training_diverges_both_say_so_and_leave_for_good(make_run: MakeRun) -> None:
    run = make_run(minimum=2, **DIVERGING, checkpoint=NEVER)
    workers = [run.start_worker(), run.start_worker()]
    assert [worker.wait_exit(60) for worker in workers] == [93, 93]
    for words in (worker.last_words() for worker in workers):
        assert words["reason"] == "DoNotRetry"
        assert "the training has diverged" in words["message"]


def test_a_worker_killed_with_everything_costs_at_most_the_step_in_flight(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    survivor, victim = run.start_worker(), run.start_worker()
    survivor.wait_step(10)
    run.operator.change(minimum=1)
    before = survivor.step
    victim.kill()
    recovery = wait_until(lambda: survivor.said.recovery, 20, "the survivor recovers", 0.01)
    print(f"kill to next optimizer step as the survivor measures it: {recovery.seconds} s, {recovery.lost_steps} lost")
    assert recovery.lost_steps <= 1
    survivor.wait_step(before + 5)
    assert run.committed() == [], "no checkpoint was needed"
    assert [m.uid for m in run.operator.members] == [survivor.uid]


def test_the_master_may_be_the_one_that_is_killed(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    workers = [run.start_worker(), run.start_worker()]
    workers[0].wait_step(5)
    run.operator.change(minimum=1)
    master = next(w for w in workers if w.uid == run.operator.members[0].uid)
    survivor = next(w for w in workers if w is not master)
    step = survivor.said.step or 0
    master.kill()
    survivor.wait_step(step + 5)
    assert survivor.exit_code is None


def test_a_noticed_worker_saves_and_leaves_and_a_newcomer_gets_the_state(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    stays, leaves = run.start_worker(), run.start_worker()
    stays.wait_step(5)
    run.operator.change(minimum=1)
    run.operator.change_pod(leaves.uid, noticed=True)
    assert leaves.wait_exit(30) == 75
    words = leaves.last_words()
    assert words["reason"] == "RunAgain"
    assert max(run.committed(), default=-1) >= words["step"], "what it left with is committed"
    recovery = wait_until(lambda: stays.said.recovery, 20, "the one that stays goes on", 0.01)
    assert recovery.lost_steps == 0
    run.operator.change_pod(leaves.uid, gone=True)

    newcomer = run.start_worker()
    step = stays.step
    newcomer.wait_step(step + 3)
    wait_until(lambda: stays.said.generation == run.operator.generation, 20, "both train in the new generation")
    assert newcomer.said.generation == run.operator.generation
    assert [report.step for report in stays.reports() if report.step is not None] == sorted(
        report.step for report in stays.reports() if report.step is not None
    ), "no step was done twice"


def test_who_comes_as_all_others_leave_goes_on_from_what_they_save(make_run: MakeRun) -> None:
    run = make_run(training=LONG, checkpoint=NEVER)
    leaves = run.start_worker()
    leaves.wait_step(20)
    run.operator.change_pod(leaves.uid, noticed=True)
    comes = run.start_worker()  # The generation that has only this one is the one that tells the other to leave.
    assert leaves.wait_exit(60) == 75
    step = leaves.last_words()["step"]
    comes.wait_step(step + 3, 60)
    assert min(report.step for report in comes.reports() if report.step is not None) >= step


def test_when_all_die_the_newest_checkpoint_that_holds_is_read(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint={"interval": {"steps": 4}, "retain": {"last": 5}})
    workers = [run.start_worker(), run.start_worker()]
    wait_until(lambda: len(run.committed()) >= 3, 60, "three checkpoints")
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.wait_exit()
        run.operator.change_pod(worker.uid, gone=True)
    newest, second = run.committed()[:2]
    weights = run.run_folder / committed_name(newest) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)

    run.operator.change(attempt=1, instruction=None, minimum=1, resume_step=newest)
    again = run.start_worker(attempt=1)
    passed = wait_until(
        lambda: again.report is not None and again.report.passed_over, 60, "the reader says what it passed over"
    )
    assert passed[0].step == newest
    assert "model.safetensors has another sha256" in passed[0].reason
    again.wait_step(second + 1)
    first_steps = [report.step for report in again.reports() if report.step is not None]
    assert first_steps[0] in (second, second + 1)
    wait_until(lambda: run.committed()[0] > newest, 60, "a newer checkpoint")
    assert find_newest(run.run_folder).found is not None


def test_a_trainer_process_that_is_killed_is_replaced_inside_the_pod(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    stays, hurt = run.start_worker(), run.start_worker()
    stays.wait_step(5)
    step = stays.step
    os.kill(hurt.trainer_pids()[0], signal.SIGKILL)
    stays.wait_step(step + 5)
    hurt.wait_step(step + 5)
    assert hurt.exit_code is None
    assert len(run.operator.members) == 2
    assert run.operator.generation >= 2


def test_sigterm_while_the_operator_is_away_saves_and_leaves(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    workers = [run.start_worker(), run.start_worker()]
    workers[0].wait_step(5)
    run.operator.stop()
    workers[1].send(signal.SIGTERM)
    assert workers[1].wait_exit(30) == 75
    step = workers[1].last_words()["step"]
    assert run.committed() == [step]
    workers[0].send(signal.SIGTERM)
    assert workers[0].wait_exit(30) == 75


def test_sigterm_with_one_worker_and_suspension_save_everything(make_run: MakeRun) -> None:
    run = make_run(training=LONG, checkpoint=NEVER)
    only = run.start_worker()
    only.wait_step(3)
    run.operator.change(stop_run=True)
    assert only.wait_exit(30) == 75
    assert run.committed() == [only.last_words()["step"]]
    assert only.last_words()["committed"]["step"] == run.committed()[0]


def test_two_processes_in_one_worker(make_run: MakeRun) -> None:
    run = make_run()
    worker = run.start_worker(processes=2)
    assert worker.wait_exit(60) == 0
    assert run.committed()[0] == 20


def test_an_instruction_that_only_some_have_heard_reaches_all_without_the_operator(
    make_run: MakeRun,
) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    hears, deaf = run.start_worker(), run.start_worker()
    hears.wait_step(3)
    run.operator.change_pod(deaf.uid, deaf=True)
    newcomer = run.start_worker()
    wait_until(lambda: deaf.said.generation == 2, 40, "the one that was told nothing is in the new generation")
    run.operator.stop()
    deaf.send(signal.SIGTERM)
    assert deaf.wait_exit(30) == 75
    assert run.committed() == [deaf.last_words()["step"]]
    assert (hears.exit_code, newcomer.exit_code) == (None, None)


def test_ranks_that_have_read_different_targets_train_alike(make_run: MakeRun) -> None:
    def document(target: int) -> dict[str, Any]:
        cosine = {"type": "Cosine", "warmupSteps": 2}
        training = {"targetSteps": target, "globalBatchSize": 6, "seed": 3, "learningRateSchedule": cosine}
        return run_document(training=training, checkpoint=NEVER, publish=None)

    digests = []
    for targets in ((12, 12), (6, 12), (12, 6)):
        run = make_run(minimum=2, **document(12))
        workers = [run.start_worker(document=document(target)) for target in targets]
        assert [worker.wait_exit(60) for worker in workers] == [0, 0]
        digests.append(run.shard_digests(12))
    assert digests[1:] == digests[:1] * 2


def test_a_full_checkpoint_volume_is_reported_and_training_goes_on(make_run: MakeRun) -> None:
    run = make_run(training=LONG, checkpoint={"interval": {"steps": 3}, "retain": {"last": 2}})
    run.checkpoints.rmdir()
    run.checkpoints.write_text("a file where the folder should be")
    worker = run.start_worker()
    failure = wait_until(
        lambda: worker.report is not None and worker.report.save_failure, 60, "the failure is reported"
    )
    assert failure.reason == "SaveFailed"
    step = worker.said.step or 0
    worker.wait_step(step + 5)


def test_a_refused_dataset_ends_with_64_and_names_the_field(make_run: MakeRun) -> None:
    run = make_run(dataset={"uri": "file:///nowhere/at-all.npz", "digest": "sha256:" + "0" * 64})
    worker = run.start_worker()
    assert worker.wait_exit(60) == 64
    words = worker.last_words()
    assert (words["reason"], words["path"]) == ("ConfigurationRefused", "spec.dataset.uri")
    assert "/nowhere/at-all.npz does not exist" in words["message"]


@pytest.mark.parametrize("processes", [2, 3])
def test_a_run_killed_and_resumed_at_the_same_size_ends_with_the_same_bits(make_run: MakeRun, processes: int) -> None:
    fields = {"training": {"targetSteps": 16, "globalBatchSize": 7, "seed": 3}, "publish": None}
    unbroken = make_run(**fields)
    assert unbroken.start_worker(processes).wait_exit(90) == 0
    run = make_run(**fields)
    first = run.start_worker(processes)
    wait_until(run.committed, 60, "a first checkpoint", 0.005)
    first.kill()
    first.wait_exit()
    run.operator.change_pod(first.uid, gone=True)
    run.operator.change(attempt=1, instruction=None)
    assert run.start_worker(processes, attempt=1).wait_exit(90) == 0
    assert run.shard_digests(16) == unbroken.shard_digests(16)


def test_the_real_command_from_its_start_to_its_end(make_run: MakeRun) -> None:
    run = make_run(training={"targetSteps": 3, "globalBatchSize": 4}, publish=None)
    run.operator.expect("pod-uid", "127.0.0.77")
    token, last_words = run.folder / "token", run.folder / "last-words"
    token.write_text("pod-uid")
    environment = {
        **os.environ, "DIFFUSION_POD_NAME": "demo-0", "DIFFUSION_POD_UID": "pod-uid", "DIFFUSION_POD_IP": "127.0.0.77",
        "DIFFUSION_ATTEMPT": "0", "DIFFUSION_PROCESSES": "1", "DIFFUSION_CONFIG_FILE": str(run.config_file),
        "DIFFUSION_AGENT_URL": run.operator.url, "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command: list[str | Path] = [
        sys.executable, "-m", "diffusion_trainer.command", "agent", "--checkpoints", run.checkpoints,
        "--models", run.models, "--scratch", run.folder, "--termination-file", last_words,
        "--operator-ca", run.operator.ca_file, "--token-file", token,
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert json.loads(last_words.read_text())["committed"]["step"] == 3
    assert run.committed() == [3]
    assert "pod-uid" not in done.stderr, "the token is never logged"
    assert next(report.state for report in run.operator.pods["pod-uid"].reports) == "Starting"
