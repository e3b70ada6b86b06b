"""What a node answers at the kubelet's port."""

from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from diffusion_local.node.log_server import LogServer
from node_configurations import node_configuration
from node_simulation import plain_pod
from pretended_containers import Play, Stage, running


def client(stage: Stage) -> TestClient[Any, Any]:
    configuration = node_configuration(stage.services.configuration.state_directory)
    return TestClient(TestServer(LogServer(configuration, {"u": stage.worker}).application()))


@pytest.mark.parametrize(
    ("verb", "said"),
    [("exec", "exec"), ("attach", "attach"), ("portForward", "port-forward"), ("run", "run")],
)
def test_what_this_node_does_not_do_is_501(play: Play, verb: str, said: str) -> None:
    async def test(stage: Stage) -> None:
        async with client(stage) as asking:
            for ask in (asking.get, asking.post):
                answer = await ask(f"/{verb}/n/p/main")
                assert answer.status == 501
                assert (await answer.text()).startswith(f"{said} is not supported by this development node")

    play(test, plain_pod())


def test_a_container_for_debugging_has_no_log_and_is_said_not_to_run(play: Play) -> None:
    pod = plain_pod()
    pod["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "image"}]

    async def test(stage: Stage) -> None:
        async with client(stage) as asking:
            answer = await asking.get("/containerLogs/n/p/debugger")
            assert (answer.status, "no ephemeral containers" in await answer.text()) == (400, True)

    play(test, pod)


def test_a_log_that_is_gone_is_no_empty_one(play: Play) -> None:
    async def test(stage: Stage) -> None:
        await running(stage, "main")
        async with client(stage) as asking:
            answer = await asking.get("/containerLogs/n/p/main")
            assert answer.status == 400
            assert 'the log of container "main" in pod "p" is gone' in await answer.text()
            log = stage.worker.place.log_path("main", 0)
            log.parent.mkdir(parents=True)
            log.write_bytes(b"2026-01-01T00:00:00.000000Z stdout F hello\n")
            assert await (await asking.get("/containerLogs/n/p/main")).text() == "hello\n"
            query = {"sinceTime": "2026-01-01T00:00:01Z"}
            assert await (await asking.get("/containerLogs/n/p/main", params=query)).text() == ""
            assert (await asking.get("/containerLogs/n/other/main")).status == 404

    play(test, plain_pod())
