"""The end of a node that its cloud takes back, with and without an API server that listens."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from diffusion_contract.names import NOTICE_CONDITIONS, NOTICE_TAINTS, TERMINATES_AT_ANNOTATION
from diffusion_local.node import preemption
from diffusion_local.node.agent import Agent
from diffusion_local.node.api_client import ApiClient
from node_configurations import node_configuration
from tiny_api import TinyApi, eventually, with_tiny_api

NODE = "/api/v1/nodes/node-1"


def with_agent(folder: Path, test: Callable[[TinyApi, Agent], Awaitable[None]]) -> None:
    """Run a test with an agent that was never started, on a server that knows its Node."""

    async def run(server: TinyApi, client: ApiClient) -> None:
        server.answer("PATCH", f"{NODE}/status", (200, {}))
        server.answer("PATCH", NODE, (200, {}))
        server.answer("GET", NODE, (200, {"spec": {"taints": [{"key": "other"}]}}))
        server.answer("DELETE", NODE, (200, {}))
        agent = Agent(node_configuration(folder), client, client)
        await test(server, agent)
        for task in agent.tasks:
            task.cancel()

    with_tiny_api(run)


def sent(server: TinyApi) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in server.requests]


def ready(body: dict[str, Any]) -> str | None:
    conditions = body["status"]["conditions"]
    return next((entry["status"] for entry in conditions if entry["type"] == "Ready"), None)


def test_the_notice_is_one_that_the_operator_knows() -> None:
    assert preemption.TAINT_KEY in NOTICE_TAINTS
    assert preemption.CONDITION in NOTICE_CONDITIONS
    assert preemption.TERMINATES_AT == TERMINATES_AT_ANNOTATION


def test_the_notice_is_stored_first_and_the_node_is_deleted_last(tmp_path: Path) -> None:
    async def test(server: TinyApi, agent: Agent) -> None:
        await agent.preemption.begin(2)
        await eventually(agent.finished.is_set, "the agent is done")
        assert sent(server)[:3] == [("PATCH", f"{NODE}/status"), ("GET", NODE), ("PATCH", NODE)]
        assert [taint["key"] for taint in server.requests[2][2]["spec"]["taints"]] == ["other", preemption.TAINT_KEY]
        assert sent(server)[-2:] == [("PATCH", f"{NODE}/status"), ("DELETE", NODE)]
        assert ready(server.requests[-2][2]) == "False"

    with_agent(tmp_path, test)


def test_a_preemption_goes_on_while_the_api_server_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "LONGEST_ANSWER", 0.2)

    async def test(server: TinyApi, agent: Agent) -> None:
        server.answer("PATCH", f"{NODE}/status", (503, {}))
        server.answer("DELETE", NODE, (503, {}))
        killed: list[bool] = []
        monkeypatch.setattr(agent, "kill_everything", lambda: killed.append(True))
        await agent.preemption.begin(2)
        assert not killed, "it does not wait for the server"
        await eventually(lambda: killed, "everything is killed when the notice is over")
        assert not agent.finished.is_set()
        server.answer("PATCH", f"{NODE}/status", (200, {}))
        server.answer("DELETE", NODE, (200, {}))
        await eventually(agent.finished.is_set, "the Node is deleted when the server is back")
        assert sent(server)[-1] == ("DELETE", NODE)

    with_agent(tmp_path, test)


def test_a_preemption_of_a_node_that_somebody_deleted_ends_it_all_the_same(tmp_path: Path) -> None:
    async def test(server: TinyApi, agent: Agent) -> None:
        for method, path in (("PATCH", f"{NODE}/status"), ("PATCH", NODE), ("GET", NODE), ("DELETE", NODE)):
            server.answer(method, path, (404, {}))
        await agent.preemption.begin(0.3)
        await eventually(agent.finished.is_set, "the agent is done")

    with_agent(tmp_path, test)
