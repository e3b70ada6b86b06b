"""How a pod is asked to end, with pretended containers."""

import signal
from typing import Any

import pytest

from diffusion_local.node import pod_worker
from node_simulation import plain_pod
from pretended_containers import POD_PATH, Play, Stage, running
from tiny_api import eventually


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


def test_a_removal_that_is_refused_is_asked_for_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_worker, "REFUSED_SECONDS", 0.01)

    async def test(stage: Stage) -> None:
        stage.server.answer("DELETE", POD_PATH, (400, {"message": "not today"}), (400, {}), (200, {}))
        await running(stage, "main")
        stage.delete(grace=0)
        await eventually(lambda: stage.deletions() == 3, "the removal that is taken")
        stage.worker.wake()
        stage.worker.forget()
        await eventually(stage.life.done, "the worker is done")
        assert stage.deletions() == 3, "what was taken is not asked for again"

    play(test, plain_pod())


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


def test_sidecars_end_after_the_others_in_reverse_order(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "side-1", "side-2", "main")
        stage.processes["main"].end(0)
        await eventually(lambda: stage.phase() == "Succeeded", "the pod has succeeded")
        assert stage.processes["side-1"].signals == stage.processes["side-2"].signals == [signal.SIGTERM]

    play(test, plain_pod("Never", inits=("side-1", "side-2")))


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


def test_a_pod_that_vanished_is_killed_without_a_word(play: Play) -> None:
    async def test(stage: Stage) -> None:
        stage.obeys = None
        await running(stage, "main")
        stage.worker.forget()
        await eventually(stage.life.done, "the worker is done")
        assert signal.SIGKILL in stage.processes["main"].signals
        assert stage.deletions() == 0

    play(test, plain_pod())
