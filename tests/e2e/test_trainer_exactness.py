"""What a run ends with, after losses and changes of size, is what it would have ended with anyway: real processes."""

import os
import signal

from safetensors.torch import load_file

from deadline import wait_until
from diffusion_trainer.checkpoint.names import committed_name
from trainer_workers import LONG, NEVER, MakeRun, Run, Worker, run_document

DROP_OUT = run_document()["model"]
DROP_OUT["denoiser"]["config"] = {**DROP_OUT["denoiser"]["config"], "dropout": 0.3}


def train_together(run: Run, *workers: Worker) -> None:
    """Wait until these, and nobody else, have made some steps together."""
    wait_until(lambda: {member.uid for member in run.operator.members} == {one.uid for one in workers}, 60, "members")
    generation = run.operator.generation
    wait_until(lambda: all(one.report and one.report.generation == generation for one in workers), 60, "all are in it")
    master = next(one for one in workers if one.uid == run.operator.members[0].uid)  # The one whose polls are short.
    master.wait_step(master.step + 5, 60)


def stop_and_read(run: Run) -> int:
    """Suspend a run that goes on, and the step at which all its workers have left; its checkpoint is the only one."""
    run.operator.change(stop_run=True)
    living = [worker for worker in run.workers if worker.exit_code is None]
    assert [worker.wait_exit(60) for worker in living] == [75] * len(living)
    (step,) = run.committed()
    return step


def test_a_process_that_was_replaced_costs_no_bit_of_any_state(make_run: MakeRun) -> None:
    """Drop-out too, which each process draws by itself, in the step that is made again and in all that follow."""
    run = make_run(model=DROP_OUT, training=LONG, checkpoint=NEVER)
    worker = run.start_worker(processes=2)
    train_together(run, worker)
    before = worker.trainer_pids()
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: run.operator.generation > 1, 60, "a new generation")
    train_together(run, worker)
    assert worker.trainer_pids()[0] == before[0], "the state of the other one was kept in memory"
    step = stop_and_read(run)

    unbroken = make_run(model=DROP_OUT, training={**LONG, "targetSteps": step}, checkpoint=NEVER, publish=None)
    assert unbroken.start_worker(processes=2).wait_exit(120) == 0
    assert run.shard_digests(step) == unbroken.shard_digests(step)


def in_waiting(run: Run, processes: int = 1) -> Worker:
    """One that is ready, and of which the operator knows nothing yet."""
    worker = run.start_worker(processes=processes, on_cpu=True)
    run.operator.change_pod(worker.uid, gone=True)
    wait_until(lambda: worker.report and worker.report.state == "Ready", 60, "it is ready")
    return worker


def test_workers_that_come_and_go_take_the_same_samples_as_one_alone(make_run: MakeRun) -> None:
    """A sample lost or taken twice moves the weights by a learning rate, another order of sums by next to nothing.

    All are on the CPU, since a worker with two processes is.
    """
    training = {**LONG, "globalBatchSize": 7}
    run = make_run(training=training, checkpoint=NEVER, publish=None)
    second, third = in_waiting(run), in_waiting(run, processes=2)
    first = run.start_worker(on_cpu=True)
    train_together(run, first)
    run.operator.change_pod(second.uid, gone=False)
    train_together(run, first, second)
    second.kill()
    run.operator.change_pod(second.uid, gone=True)
    train_together(run, first)
    run.operator.change_pod(third.uid, gone=False)
    train_together(run, first, third)
    step = stop_and_read(run)

    alone = make_run(training={**training, "targetSteps": step}, checkpoint=NEVER, publish=None)
    assert alone.start_worker(on_cpu=True).wait_exit(120) == 0
    assert distance(run, alone, step) < 1e-3


def distance(run: Run, other: Run, step: int) -> float:
    """How far their weights of this step lie apart, relative to the length of the weights."""
    ours, theirs = (load_file(one.run_folder / committed_name(step) / "model.safetensors") for one in (run, other))
    apart = sum(float((ours[name] - theirs[name]).double().square().sum()) for name in ours)
    return float((apart / sum(float(tensor.double().square().sum()) for tensor in theirs.values())) ** 0.5)
