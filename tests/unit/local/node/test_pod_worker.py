"""The life of one pod on the node, with pretended containers."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node import container_run, object_watch
from diffusion_local.node.machine_files import Hosts
from diffusion_local.node.pod_record import Verdict
from node_simulation import plain_pod
from pretended_containers import Stage, on_stage
from tiny_api import eventually

Play = Callable[[Callable[[Stage], Awaitable[None]], dict[str, Any]], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    return lambda test, pod: on_stage(test, pod, tmp_path, monkeypatch)


async def running(stage: Stage, *names: str) -> None:
    await eventually(lambda: stage.phase() == "Running" and set(stage.processes) >= set(names), "the pod runs")


def test_a_pod_runs_and_ends_and_gives_its_address_back(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        assert stage.services.addresses.taken == {"10.244.1.2"}
        stage.processes["main"].end(0)
        await eventually(lambda: stage.phase() == "Succeeded", "the pod has succeeded")
        await eventually(lambda: not stage.services.addresses.taken, "the address is free")
        assert stage.statuses()[-1]["podIP"] == "10.244.1.2"
        assert stage.deletions() == 0

    play(test, plain_pod())


def test_a_deleted_pod_is_asked_to_end_and_then_removed(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.delete(grace=30)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        assert stage.processes["main"].signals == [signal.SIGTERM]
        assert stage.phase() == "Failed"
        assert stage.statuses()[-1]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
        stage.worker.forget()
        await eventually(stage.life.done, "the worker is done")
        assert not stage.services.pod_directory(stage.pod).exists()

    play(test, plain_pod("Always"))


def test_a_stubborn_container_is_killed_when_its_grace_is_over(play: Play) -> None:
    async def test(stage: Stage) -> None:
        stage.obeys = None
        await running(stage, "main")
        stage.delete(grace=0.2)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        assert stage.processes["main"].signals == [signal.SIGTERM, signal.SIGKILL]
        assert stage.statuses()[-1]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137

    play(test, plain_pod())


def test_less_grace_shortens_an_ending(play: Play) -> None:
    async def test(stage: Stage) -> None:
        stage.obeys = None
        await running(stage, "main")
        stage.delete(grace=300)
        await eventually(lambda: stage.processes["main"].signals, "SIGTERM")
        stage.delete(grace=0.1)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")

    play(test, plain_pod())


def test_a_container_is_started_again_with_its_history(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        first = stage.processes["main"]
        first.end(7)
        await eventually(lambda: stage.processes["main"] is not first, "it is started again")
        stage.processes["main"].end(8)
        await eventually(
            lambda: (
                stage.statuses()[-1]["containerStatuses"][0]["state"].get("waiting", {}).get("reason")
                == "CrashLoopBackOff"
            ),
            "it backs off",
        )
        status = stage.statuses()[-1]["containerStatuses"][0]
        assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 8)
        stage.delete(grace=5)
        await eventually(lambda: stage.deletions() == 1, "a pod that waits can be deleted")

    play(test, plain_pod("Always"))


def test_sidecars_end_after_the_others_in_reverse_order(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "side-1", "side-2", "main")
        stage.processes["main"].end(0)
        await eventually(lambda: stage.phase() == "Succeeded", "the pod has succeeded")
        assert stage.processes["side-1"].signals == stage.processes["side-2"].signals == [signal.SIGTERM]

    play(test, plain_pod("Never", inits=("side-1", "side-2")))


def test_the_node_may_end_a_pod(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.worker.end(Verdict("Terminated", "shutdown"), Verdict("TerminationByKubelet", "shutdown"), 10.0)
        await eventually(lambda: stage.phase() == "Failed", "the pod has failed")
        status = stage.statuses()[-1]
        assert status["reason"] == "Terminated"
        assert any(entry["type"] == "DisruptionTarget" for entry in status["conditions"])
        assert not stage.worker.lives
        assert stage.deletions() == 0

    play(test, plain_pod("Always"))


def with_hook(pod: dict[str, Any], kind: str, hook: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pod["spec"]["containers"][0]["lifecycle"] = {kind: hook}
    pod["spec"].update(spec)
    return pod


def test_a_hook_that_takes_longer_than_the_grace_leaves_time_for_sigterm(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.delete(grace=0.3)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        assert stage.processes["main"].signals == [signal.SIGTERM]
        assert "FailedPreStopHook" in stage.told()

    play(test, with_hook(plain_pod(), "preStop", {"sleep": {"seconds": 60}}))


def test_a_hook_that_is_done_leaves_the_rest_of_the_grace(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.delete(grace=30)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        assert stage.processes["main"].signals == [signal.SIGTERM]
        assert "FailedPreStopHook" not in stage.told()

    play(test, with_hook(plain_pod(), "preStop", {"sleep": {"seconds": 0.2}}))


def test_no_grace_is_no_hook_and_no_sigterm(play: Play) -> None:
    async def test(stage: Stage) -> None:
        stage.obeys = None
        await running(stage, "main")
        stage.delete(grace=0)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        assert stage.processes["main"].signals == [signal.SIGKILL]

    play(test, with_hook(plain_pod(), "preStop", {"sleep": {"seconds": 60}}))


def test_a_condemned_container_is_asked_to_end_once(play: Play) -> None:
    async def test(stage: Stage) -> None:
        stage.obeys = None
        await running(stage, "main")
        run = stage.worker.runs["main"]
        for _ in range(3):
            run.kill("Container main failed liveness probe, will be restarted", 0.2)
        stage.delete(grace=0.4)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        assert stage.processes["main"].signals == [signal.SIGTERM, signal.SIGKILL]
        assert stage.told().count("Killing") == 1

    play(test, plain_pod("Always"))


def test_sidecars_are_asked_when_the_grace_is_over_though_others_still_end(play: Play) -> None:
    async def test(stage: Stage) -> None:
        stage.obeys = None
        await running(stage, "side-1", "main")
        stage.delete(grace=0.2)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        for process in stage.processes.values():
            assert process.signals == [signal.SIGTERM, signal.SIGKILL]

    play(test, plain_pod("Always", inits=("side-1",)))


def test_a_container_that_cannot_be_looked_after_is_restarted(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise OverflowError("cannot convert float infinity to integer")

    monkeypatch.setattr(container_run, "live", broken)

    async def test(stage: Stage) -> None:
        await eventually(lambda: "main" in stage.processes, "it is started")
        first = stage.processes["main"]
        await eventually(lambda: first.signals == [signal.SIGTERM], "it is condemned")
        assert any("OverflowError" in event["message"] for event in stage.events())

    play(test, plain_pod("Always"))


def test_a_pod_that_vanished_is_killed_without_a_word(play: Play) -> None:
    async def test(stage: Stage) -> None:
        stage.obeys = None
        await running(stage, "main")
        stage.worker.forget()
        await eventually(stage.life.done, "the worker is done")
        assert signal.SIGKILL in stage.processes["main"].signals
        assert stage.deletions() == 0

    play(test, plain_pod())


def test_too_much_memory_is_said(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.worker.runs["main"].run_out_of_memory()
        await eventually(lambda: stage.phase() == "Failed", "the pod has failed")
        assert stage.statuses()[-1]["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"

    play(test, plain_pod())


def earlier(pod: dict[str, Any], **state: Any) -> dict[str, Any]:
    """The pod as an earlier agent left it: its container was in this state."""
    ran = {"name": "main", "image": "image", "state": state, "restartCount": 2, "containerID": "process://u-main-2"}
    pod["status"] = {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [ran]}
    return pod


def test_a_pod_of_an_earlier_agent_has_failed_and_can_be_deleted(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await eventually(lambda: stage.phase() == "Failed", "the pod has failed")
        status = stage.statuses()[-1]["containerStatuses"][0]
        assert status["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
        assert status["restartCount"] == 2
        assert stage.processes == {}
        stage.delete(grace=30)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")

    play(test, earlier(plain_pod(), running={"startedAt": "2026-01-01T00:00:00Z"}))


def test_a_pod_of_an_earlier_agent_that_is_always_restarted_goes_on_with_a_new_address(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        status = stage.statuses()[-1]
        assert status["containerStatuses"][0]["restartCount"] == 3
        assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137
        assert status["podIPs"] == [{"$patch": "replace"}, {"ip": "10.244.1.2"}]

    play(test, earlier(plain_pod("Always"), running={"startedAt": "2026-01-01T00:00:00Z"}))


def test_a_pod_of_an_earlier_agent_that_never_started_starts(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")

    play(test, earlier(plain_pod(), waiting={"reason": "ErrImagePull"}))


def test_a_status_that_others_change_is_put_right(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        await eventually(lambda: stage.condition("Ready") == "True", "the pod is ready")
        await stage.worker.writer.flush()
        writes = len(stage.statuses())
        status = stage.statuses()[-1]
        unready = [{"type": "Ready", "status": "False"}]
        others = [entry for entry in status["conditions"] if entry["type"] != "Ready"]
        stage.worker.update({**stage.pod, "status": {**status, "conditions": [*others, *unready]}})
        await eventually(lambda: len(stage.statuses()) == writes + 1, "it is written again")
        assert stage.condition("Ready") == "True"

    play(test, plain_pod())


def test_a_pod_that_others_have_failed_is_ended(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.worker.update({**stage.pod, "status": {"phase": "Failed", "reason": "NodeLost"}})
        await eventually(lambda: stage.phase() == "Failed", "the pod has ended")
        assert stage.processes["main"].signals == [signal.SIGTERM]
        assert stage.statuses()[-1]["reason"] == "NodeLost"

    play(test, plain_pod("Always"))


def test_the_deadline_counts_also_while_the_volumes_are_missing(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await eventually(lambda: stage.phase() == "Pending", "the pod waits for its volume")
        assert stage.processes == {}
        stage.now += 61
        stage.worker.wake()
        await eventually(lambda: stage.phase() == "Failed", "the pod has failed")
        assert stage.statuses()[-1]["reason"] == "DeadlineExceeded"
        assert stage.processes == {}

    pod = plain_pod()
    pod["spec"] |= {"activeDeadlineSeconds": 60, "volumes": [{"name": "v", "configMap": {"name": "missing"}}]}
    play(test, pod)


def test_a_full_disk_delays_a_pod_and_is_told(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    full, write = [True], Hosts.write

    def sometimes(hosts: Hosts, path: Path) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        write(hosts, path)

    monkeypatch.setattr(Hosts, "write", sometimes)

    async def test(stage: Stage) -> None:
        await eventually(lambda: "FailedCreatePodSandBox" in stage.told(), "it is told")
        assert stage.phase() == "Pending"
        full[0] = False
        await running(stage, "main")
        assert stage.services.addresses.taken == {"10.244.1.2"}

    play(test, plain_pod())


def test_a_pod_that_waits_for_an_object_that_the_node_may_not_read_can_be_deleted(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_watch, "FIRST_ANSWER_SECONDS", 0.1)

    async def test(stage: Stage) -> None:
        await eventually(lambda: "FailedMount" in stage.told(), "it is told")
        stage.delete(grace=30)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")

    pod = plain_pod()
    pod["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "forbidden"}}]

    monkeypatch.setattr(object_watch.ObjectWatch, "follow", never)
    play(test, pod)


async def never(*_: object) -> None:
    await asyncio.Event().wait()


def test_a_pod_that_had_ended_is_left_as_it_is(play: Play) -> None:
    pod = plain_pod()
    pod["status"] = {"phase": "Succeeded", "startTime": "2026-01-01T00:00:00Z"}

    async def test(stage: Stage) -> None:
        stage.delete(grace=30)
        await eventually(lambda: stage.deletions() == 1, "the pod is removed")
        assert stage.statuses() == []

    play(test, pod)
