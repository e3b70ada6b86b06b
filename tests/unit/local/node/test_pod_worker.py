"""The life of one pod on the node, with pretended containers."""

import signal

import pytest

from diffusion_local.node import container_run
from diffusion_local.node.pod_record import Verdict
from node_simulation import plain_pod
from pretended_containers import Play, Stage, running
from tiny_api import eventually


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


def test_too_much_memory_is_said_of_a_run_that_was_too_short_to_be_seen(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.processes["main"].peak = 64 << 30
        stage.processes["main"].end(0)
        await eventually(lambda: stage.phase() == "Failed", "the pod has failed")
        end = stage.statuses()[-1]["containerStatuses"][0]["state"]["terminated"]
        assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")

    pod = plain_pod()
    pod["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}
    play(test, pod)


def test_too_much_memory_is_said(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        stage.worker.runs["main"].run_out_of_memory()
        await eventually(lambda: stage.phase() == "Failed", "the pod has failed")
        assert stage.statuses()[-1]["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"

    play(test, plain_pod())


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
