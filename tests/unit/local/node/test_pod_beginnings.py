"""What comes before a pod's containers: an earlier agent, missing volumes, a full disk. Containers are pretended."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node import object_watch, pod_sandbox
from diffusion_local.node.container_start import NotStartable
from diffusion_local.node.machine_files import Hosts
from diffusion_local.node.moments import rfc3339
from node_simulation import plain_pod
from pretended_containers import Play, Stage, running
from tiny_api import eventually, written


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
        await eventually(lambda: stage.statuses()[-1]["containerStatuses"][0]["restartCount"] == 3, "it is told")
        status = stage.statuses()[-1]
        assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137
        assert status["podIPs"] == [{"$patch": "replace"}, {"ip": "10.244.1.2"}]

    play(test, earlier(plain_pod("Always"), running={"startedAt": "2026-01-01T00:00:00Z"}))


def test_a_pod_of_an_earlier_agent_that_never_started_starts(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")

    play(test, earlier(plain_pod(), waiting={"reason": "ErrImagePull"}))


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


def test_a_new_token_reaches_the_running_pod(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_sandbox, "SHORTEST_REFRESH", 0.05)

    async def test(stage: Stage) -> None:
        path = "/api/v1/namespaces/n/serviceaccounts/default/token"
        soon, later = (rfc3339(time.time() + seconds) for seconds in (2, 3600))
        stage.server.answer(
            "POST",
            path,
            (201, {"status": {"token": "first", "expirationTimestamp": soon}}),
            (201, {"status": {"token": "second", "expirationTimestamp": later}}),
        )
        await running(stage, "main")
        file = stage.services.pod_directory(stage.pod) / "volumes/p/token"
        await eventually(lambda: file.read_text() == "second", "the token is renewed")
        assert stage.worker.runs["main"].alive
        assert len(written(stage.server, "POST", path)) == 2

    pod = plain_pod()
    sources = [{"serviceAccountToken": {"path": "token", "audience": "somebody"}}]
    pod["spec"]["volumes"] = [{"name": "p", "projected": {"sources": sources}}]
    play(test, pod)


def test_failed_pulls_and_crashes_are_counted_apart(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        known = stage.worker.record.containers["main"]
        for reason in ("ErrImagePull", "CreateContainerConfigError", "ErrImagePull"):
            stage.worker.not_startable("main", known, NotStartable(reason, "no"))
            known = stage.worker.record.containers["main"]
        assert (known.pulls, known.failures, known.retry_at) == (1, 0, stage.now + 10)

    play(test, plain_pod("Always"))
