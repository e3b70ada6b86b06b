"""How a node says that it is there and lives."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.configuration import NodeConfiguration
from diffusion_local.node.heartbeat import LEASES, Heartbeat
from node_configurations import node_configuration
from tiny_api import TinyApi, eventually, with_tiny_api, written


@pytest.fixture
def configuration(tmp_path: Path) -> NodeConfiguration:
    return node_configuration(tmp_path, lease_renew_seconds=0.02)


def test_a_node_is_registered_and_its_lease_renewed(configuration: NodeConfiguration) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        lease = f"{LEASES}/node-1"
        server.answer("POST", "/api/v1/nodes", (201, {"metadata": {"uid": "node-uid"}}))
        server.answer("PATCH", lease, (404, {}), (200, {}))
        server.answer("POST", LEASES, (201, {}))
        heartbeat = Heartbeat(client, configuration)
        await heartbeat.register()
        assert written(server, "POST", LEASES)[0]["metadata"]["ownerReferences"][0]["uid"] == "node-uid"
        assert written(server, "PATCH", "/api/v1/nodes/node-1/status")[0]["status"]["addresses"]
        task = asyncio.create_task(heartbeat.beat())
        await eventually(lambda: len(written(server, "PATCH", lease)) >= 3, "the lease is renewed")
        task.cancel()

    with_tiny_api(test)


def beating(server: TinyApi, client: ApiClient, configuration: NodeConfiguration) -> Heartbeat:
    server.answer("PATCH", f"{LEASES}/node-1", (200, {}))
    server.answer("PATCH", "/api/v1/nodes/node-1/status", (200, {}))
    server.answer("GET", "/api/v1/nodes/node-1", (200, says("True")))
    return Heartbeat(client, configuration)


def says(ready: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_a_node_that_was_late_says_at_once_that_it_is_ready(configuration: NodeConfiguration) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        heartbeat = beating(server, client, configuration)
        interval = configuration.lease_renew_seconds
        begun = heartbeat.renewed_at
        await heartbeat.beat_once(begun + interval)
        assert written(server, "PATCH", "/api/v1/nodes/node-1/status") == []
        await heartbeat.beat_once(begun + 4 * interval)
        assert len(written(server, "PATCH", "/api/v1/nodes/node-1/status")) == 1

    with_tiny_api(test)


def test_a_node_whose_lease_could_not_be_renewed_says_afterwards_that_it_is_ready(
    configuration: NodeConfiguration,
) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        heartbeat = beating(server, client, configuration)
        server.answer("PATCH", f"{LEASES}/node-1", (503, {}), (503, {}), (200, {}))
        interval, begun = configuration.lease_renew_seconds, heartbeat.renewed_at
        for turn in (1, 2, 3):
            await heartbeat.beat_once(begun + turn * interval)
        assert len(written(server, "PATCH", "/api/v1/nodes/node-1/status")) == 1

    with_tiny_api(test)


@pytest.mark.parametrize(("ready", "writes"), [("True", 0), ("Unknown", 1), ("False", 1)])
def test_a_node_that_is_called_dead_says_otherwise_within_ten_seconds(
    configuration: NodeConfiguration, ready: str, writes: int
) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        heartbeat = beating(server, client, configuration)
        server.answer("GET", "/api/v1/nodes/node-1", (200, says(ready)))
        now = heartbeat.renewed_at + 10.1
        heartbeat.renewed_at = now
        await heartbeat.beat_once(now)
        assert len(written(server, "PATCH", "/api/v1/nodes/node-1/status")) == writes

    with_tiny_api(test)


def test_a_node_that_exists_is_taken_over(configuration: NodeConfiguration) -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("POST", "/api/v1/nodes", (503, {}), (409, {}))
        server.answer("PATCH", "/api/v1/nodes/node-1", (200, {"metadata": {"uid": "old"}}))
        heartbeat = Heartbeat(client, configuration)
        await heartbeat.register()
        assert heartbeat.uid == "old"
        (labels,) = written(server, "PATCH", "/api/v1/nodes/node-1")
        assert labels["metadata"]["labels"]["kubernetes.io/hostname"] == "node-1"

    with_tiny_api(test)
