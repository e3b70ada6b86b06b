"""The phase of a run, its reason and its sentence, for each line of the checklist; and what kstatus reads from it."""

from typing import Any

import pytest

from decided_trainings import BOTH, COMMITTED, IMAGE, JOBS, PAIR, PUBLISHED, decided, kstatus, said
from diffusion_contract.agent_messages import SaveFailure
from world_builders import TWO_POOLS, job, node, pod, record, spec_with, training_status

FULL = SaveFailure(reason="StorageFull", message="the checkpoint volume is full")
UNPLACED = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any], str, str, str, str]] = {
    "new": ((), {}, "Pending", "Creating", "workers are being created", "InProgress"),
    "pods come up": (
        PAIR,
        {"status": training_status()},
        "Starting",
        "Starting",
        "waiting until 1 of 2 workers are ready",
        "InProgress",
    ),
    "no such image": (
        (*JOBS, pod("a", waiting=IMAGE)),
        {"status": training_status()},
        "Starting",
        "ImagePull",
        "pod a cannot pull its image: nothing is known about nowhere:1; "
        "set spec.workers.image, or correct the operator's image for trainers",
        "Failed",
    ),
    "no node": (
        (*JOBS, pod("a", node="", phase="Pending", conditions=[UNPLACED])),
        {"status": training_status()},
        "Pending",
        "Unschedulable",
        "pod a has no node: 0/2 nodes are available",
        "InProgress",
    ),
    "trains": (
        PAIR,
        {"status": training_status("a", "b"), "records": BOTH},
        "Running",
        "Training",
        "2 of 2 workers train as generation 1",
        "Current",
    ),
    "a member's node is noticed": (
        PAIR,
        {
            "status": training_status("a", "b"),
            "records": BOTH,
            "nodes": {"n2": node("cloud.google.com/impending-node-termination")},
        },
        "Draining",
        "WorkersLeaving",
        "b saves and leaves; 1 of 2 workers train as generation 2",
        "InProgress",
    ),
    "a member died": (
        (*JOBS, pod("a"), pod("b", pool="spot", node="n2", exit_code=1)),
        {"status": training_status("a", "b"), "records": BOTH},
        "Resizing",
        "Regrouping",
        "b is leaving: it ended with exit code 1; 1 of 2 workers train as generation 2",
        "InProgress",
    ),
    "to be suspended": (
        PAIR,
        {"status": training_status("a", "b"), "records": BOTH, "spec": spec_with(TWO_POOLS, suspend=True)},
        "Draining",
        "Suspending",
        "workers save and leave, because spec.suspend is true",
        "InProgress",
    ),
    "suspended": (
        (),
        {
            "status": training_status(checkpoint={"lastCommitted": COMMITTED | {"step": 7}}),
            "spec": spec_with(suspend=True),
        },
        "Suspended",
        "Suspended",
        "spec.suspend is true; the newest checkpoint is of step 7",
        "Current",
    ),
    "suspended, while workers of the attempt before still run": (
        (job("base", attempt=1), pod("a", attempt=1), pod("b", attempt=1, exit_code=75)),
        {"status": training_status(attempt=2), "spec": spec_with(suspend=True)},
        "Draining",
        "Suspending",
        "workers save and leave, because spec.suspend is true",
        "InProgress",
    ),
    "publishes": (
        PAIR,
        {"status": training_status("a", "b"), "records": (record("a", state="Publishing", generation=1), BOTH[1])},
        "Publishing",
        "Publishing",
        "the target step is committed, and its model version is being written",
        "InProgress",
    ),
    "cannot publish": (
        PAIR,
        {
            "status": training_status("a", "b"),
            "records": (record("a", state="Publishing", generation=1, message="its model version cannot be written"),),
        },
        "Publishing",
        "PublishFailing",
        "the target step is committed, but its model version cannot be written; it is tried again and again",
        "Failed",
    ),
    "cannot commit the target": (
        PAIR,
        {
            "status": training_status("a", "b"),
            "records": (record("a", generation=1, step=20, save_failure=FULL), record("b", generation=1, step=20)),
        },
        "Running",
        "StorageFull",
        "step 20 is reached, and waits to be committed: the checkpoint volume is full",
        "Failed",
    ),
    "target committed": (
        PAIR,
        {"status": training_status("a", "b", checkpoint={"lastCommitted": COMMITTED}), "records": BOTH},
        "Succeeded",
        "TargetReached",
        "step 20 is committed",
        "Current",
    ),
    "the target was raised when all was done": (
        (*JOBS, pod("a", exit_code=0), pod("b", pool="spot", exit_code=0)),
        {
            "spec": spec_with(TWO_POOLS, training__targetSteps=4000, publish={"claim": {"size": "1Gi"}}),
            "status": training_status("a", "b", checkpoint={"lastCommitted": COMMITTED}, published=PUBLISHED),
        },
        "Pending",
        "Creating",
        "workers are being created",
        "InProgress",
    ),
    "published": (
        PAIR,
        {
            "spec": spec_with(TWO_POOLS, publish={"claim": {"size": "1Gi"}}),
            "status": training_status("a", "b", checkpoint={"lastCommitted": COMMITTED}, published=PUBLISHED),
        },
        "Succeeded",
        "Published",
        f"step 20 is committed and published as {PUBLISHED['reference']}",
        "Current",
    ),
    "configuration refused": (
        (
            *JOBS,
            pod("a", exit_code=64, message='{"reason":"DatasetMissing","message":"no file","path":"spec.dataset.uri"}'),
        ),
        {"status": training_status()},
        "Failed",
        "DatasetMissing",
        "spec.dataset.uri: no file",
        "Failed",
    ),
    "do not retry": (
        (*JOBS, pod("a", exit_code=93)),
        {"status": training_status()},
        "Failed",
        "DoNotRetry",
        "pod a ended with exit code 93 and left no message",
        "Failed",
    ),
    "the Job remembers what its pod said": (
        (job("base", conditions=[{"type": "Failed", "status": "True", "message": "exit code 64 matched"}]),),
        {"status": training_status()},
        "Failed",
        "JobFailed",
        "Job job-base-1 failed: exit code 64 matched",
        "Failed",
    ),
    "too many crashes": (
        (*JOBS, pod("a", exit_code=1, message='{"reason":"Crash","message":"out of ideas"}')),
        {"status": training_status("a", restarts={"counted": 10})},
        "Failed",
        "TooManyRestarts",
        "workers crashed 11 times, and failurePolicy.maxRestarts is 10: "
        "the last worker ended with exit code 1 (out of ideas)",
        "Failed",
    ),
    "too little memory": (
        (*JOBS, pod("a", exit_code=137, ended="OOMKilled")),
        {"status": training_status("a", restarts={"counted": 10})},
        "Failed",
        "TooManyRestarts",
        "workers crashed 11 times, and failurePolicy.maxRestarts is 10: the last worker ended with exit code 137 "
        "(it used more memory than its limit: raise spec.workers.resources.limits.memory)",
        "Failed",
    ),
    "an image without the command": (
        (*JOBS, pod("a", exit_code=128, ended="StartError", message="exec: no such file")),
        {"status": training_status("a", restarts={"counted": 10})},
        "Failed",
        "TooManyRestarts",
        "workers crashed 11 times, and failurePolicy.maxRestarts is 10: the last worker ended with exit code 128 "
        "(its container could not be started: exec: no such file: correct spec.workers.image)",
        "Failed",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_phase_reason_and_message(case: str) -> None:
    children, facts, phase, reason, message, health = CASES[case]
    plan = decided(*children, **facts)
    assert said(plan) == (phase, reason, message)
    assert kstatus(plan) == health
