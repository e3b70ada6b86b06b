"""The operator dies or is away, all workers die: what runs goes on, what ended starts again, nothing is left over."""

from typing import Any

import pytest

from chart_rendering import NAMESPACE, RELEASE
from cluster_fixtures import Kubernetes, get, wait_for
from diffusion_local.cluster import Cluster
from line_objects import TWO_WORKERS, small_training
from line_story import MODEL, Line, is_true, kill_processes_with, step_of

NAME = "away"
LONG = {"targetSteps": 100_000, "globalBatchSize": 256, "seed": 3}


@pytest.fixture(scope="module")
def run(served: Line) -> Line:
    """A training on two workers that would go on for hours, beside a service that answers a visitor."""
    interval = {"steps": 10}
    served.apply(
        NAME,
        small_training(spec__workers=TWO_WORKERS, spec__training=LONG, spec__checkpoint__interval=interval),
    )
    return served


def scale(kubernetes: Kubernetes, replicas: int) -> None:
    """Have this many operators, and wait until it is so."""
    done = kubernetes.kubectl("scale", f"deploy/{RELEASE}", "-n", NAMESPACE, f"--replicas={replicas}")
    assert done.returncode == 0, done.stderr
    wait_for(
        lambda: [is_ready(pod) for pod in operator_pods(kubernetes)] == [True] * replicas, 120, f"{replicas} operators"
    )


def operator_pods(kubernetes: Kubernetes) -> list[dict[str, Any]]:
    """The operator's pods."""
    found: list[dict[str, Any]] = get(kubernetes, "pods", "-n", NAMESPACE)["items"]
    return found


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether all containers of a pod are ready."""
    return is_true(pod["status"], "Ready") and not pod["metadata"].get("deletionTimestamp")


def standing(status: dict[str, Any]) -> tuple[Any, ...]:
    """What must stay as it is while nothing happens to the workers."""
    members = [one["uid"] for one in status["rendezvous"]["members"]]
    return status["attempt"], status["generation"], members, status["restarts"]


def both_train(run: Line, more: int = 3) -> dict[str, Any]:
    """Wait until two workers train and have made a few more steps."""
    first = run.wait(NAME, lambda now: now.get("worldSize") == 2 and step_of(now) > 0, 240, "two workers train")
    return run.wait(NAME, lambda now: step_of(now) >= step_of(first) + more, 90, f"{more} more steps")


def all_went_well(visits: list[dict[str, Any]]) -> bool:
    """Whether every request was answered with an image."""
    return bool(visits) and {visit["code"] for visit in visits} == {200}


def test_when_all_workers_are_killed_the_newest_checkpoint_is_read(run: Line, embedded: Cluster) -> None:
    both_train(run)
    run.wait(NAME, lambda now: now["checkpoint"].get("lastVerified"), 120, "a checkpoint that was read back")
    before = run.status(NAME)
    uids = [pod["metadata"]["uid"] for pod in run.living_pods(NAME)]
    kill_processes_with(*(f"DIFFUSION_POD_UID={uid}" for uid in uids))
    after = run.wait(NAME, lambda now: now["attempt"] == 2 and now.get("worldSize"), 240, "a second attempt")
    committed = before["checkpoint"]["lastCommitted"]["step"]
    assert after["rendezvous"]["resumeStep"] >= committed
    assert 1 <= after["restarts"]["counted"] <= len(uids)
    logs = run.kubectl("logs", f"--selector=diffusion.dev/training={NAME},diffusion.dev/attempt=2", "--tail=-1")
    resumed = f"resuming from the checkpoint of step {after['rendezvous']['resumeStep']} "
    assert resumed in logs, logs
    again = run.wait(NAME, lambda now: step_of(now) > committed, 120, "steps beyond it")
    assert is_true(again, "CheckpointVerified")


def test_an_operator_that_is_killed_comes_back_and_nothing_else_moves(run: Line, embedded: Cluster) -> None:
    before = both_train(run)
    (pod,) = operator_pods(embedded)
    kill_processes_with(f"POD_NAME={pod['metadata']['name']}")

    def is_back() -> bool:
        (now,) = operator_pods(embedded)
        return now["status"]["containerStatuses"][0]["restartCount"] >= 1 and is_ready(now)

    wait_for(is_back, 120, "the operator runs again")
    after = run.wait(NAME, lambda now: step_of(now) >= step_of(before) + 10, 120, "the status follows again")
    assert standing(after) == standing(before)
    assert all_went_well(run.visits(MODEL))


def test_without_an_operator_training_and_service_go_on(run: Line) -> None:
    before = both_train(run)
    worker = before["rendezvous"]["members"][0]["pod"]
    scale(run.kubernetes, 0)
    stored = run.status(NAME)
    away = run.kubectl("logs", worker).count("committed in")
    wait_for(lambda: run.kubectl("logs", worker).count("committed in") >= away + 2, 120, "checkpoints without it")
    assert all_went_well(run.more_visits(MODEL))
    assert run.status(NAME) == stored, "nobody writes the status meanwhile"
    scale(run.kubernetes, 1)
    after = run.wait(NAME, lambda now: step_of(now) >= step_of(stored) + 20, 120, "the status has caught up")
    assert standing(after) == standing(before)
    assert after["checkpoint"]["lastCommitted"]["step"] > before["checkpoint"]["lastCommitted"]["step"]
    assert is_true(run.wait_ready(MODEL), "Available")


def test_a_training_deleted_while_the_operator_is_away_goes_with_all_its_children(run: Line) -> None:
    before = run.children(NAME)
    assert {kind.partition("/")[0] for kind in before} >= {"job.batch", "service", "configmap", "pod"}
    scale(run.kubernetes, 0)
    run.kubectl("delete", "dt", NAME, "--timeout=30s")
    wait_for(lambda: not run.children(NAME), 120, "the garbage collector")
    scale(run.kubernetes, 1)
    run.wait_ready(MODEL)
    assert run.children(NAME) == []
    assert run.children(MODEL), "only what was deleted goes"
    assert all_went_well(run.visits(MODEL))
