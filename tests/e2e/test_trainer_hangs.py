"""Workers and processes that hang with their connections open: nobody waits for them for long."""

import os
import signal

import pytest

from deadline import wait_until
from trainer_workers import LONG, NEVER, MakeRun, descendants, title


def test_a_peer_that_hangs_with_its_connections_open_is_left_behind(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    stays, hangs = run.start_worker(), run.start_worker()
    stays.wait_step(5)
    run.operator.change(minimum=1)
    os.killpg(hangs.pid, signal.SIGSTOP)
    run.operator.change_pod(hangs.uid, gone=True)
    step = stays.step
    stays.wait_step(step + 3)
    assert stays.exit_code is None
    assert wait_until(lambda: stays.said.recovery, 20, "the one that stays goes on", 0.01).lost_steps <= 1


def test_a_process_that_hangs_in_a_pod_that_answers_is_replaced(make_run: MakeRun) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    stays, hurt = run.start_worker(), run.start_worker(beat_seconds=0.5)
    stays.wait_step(5)
    hung = hurt.trainer_pids()[0]
    os.kill(hung, signal.SIGSTOP)
    wait_until(lambda: hung not in hurt.trainer_pids(), 30, "the hung process is killed")
    step = stays.step
    stays.wait_step(step + 3)
    hurt.wait_step(step + 3)
    assert (stays.exit_code, hurt.exit_code) == (None, None)
    assert {member.uid for member in run.operator.members} == {stays.uid, hurt.uid}


@pytest.mark.parametrize("by_sigterm", [True, False])
def test_a_worker_that_is_to_leave_saves_alone_where_its_peer_hangs(make_run: MakeRun, by_sigterm: bool) -> None:
    run = make_run(minimum=2, training=LONG, checkpoint=NEVER)
    hangs, leaves = run.start_worker(), run.start_worker()
    hangs.wait_step(5)
    os.killpg(hangs.pid, signal.SIGSTOP)
    if by_sigterm:
        leaves.send(signal.SIGTERM)
    else:
        run.operator.change(minimum=1)
        run.operator.change_pod(leaves.uid, noticed=True)
    assert leaves.wait_exit(60) == 75
    words = leaves.last_words()
    assert run.committed() == [words["step"]] == [words["committed"]["step"]]
    assert run.shard_digests(words["step"])
    os.killpg(hangs.pid, signal.SIGCONT)


def test_training_goes_on_while_the_process_that_writes_its_checkpoints_hangs(make_run: MakeRun) -> None:
    run = make_run(training=LONG, checkpoint={"interval": {"steps": 3}, "retain": {"last": 1000}}, publish=None)
    worker = run.start_worker()
    wait_until(run.committed, 60, "a first checkpoint")
    (writer,) = (pid for pid in descendants(worker.pid) if "checkpoint writer" in title(pid))
    os.kill(writer, signal.SIGSTOP)
    worker.wait_step(worker.step + 3, 60)  # What it had finished before it was stopped is there now.
    saved = run.committed()
    worker.wait_step(worker.step + 20, 60)
    assert run.committed() == saved, "nothing is written by the one that trains"
    os.kill(writer, signal.SIGCONT)
    wait_until(lambda: run.committed()[0] > saved[0], 60, "it goes on writing")
    assert run.shard_digests(run.committed()[0])
