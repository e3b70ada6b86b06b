"""What the node agent writes and keeps up to date: statuses, events, tokens, ConfigMaps and Secrets, the Node."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.configuration import NodeConfiguration
from diffusion_local.node.control_socket import ControlSocket
from diffusion_local.node.events import EventWriter
from diffusion_local.node.heartbeat import LEASES, Heartbeat
from diffusion_local.node.moments import rfc3339
from diffusion_local.node.object_watch import ObjectWatch
from diffusion_local.node.service_account_token import TokenSource
from diffusion_local.node.status_writer import StatusWriter, delete_for_good
from tiny_api import TinyApi, eventually, with_tiny_api

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u"},
    "spec": {"serviceAccountName": "sa"},
    "status": {"phase": "Pending"},
}
POD_PATH = "/api/v1/namespaces/n/pods/p"
STATUS_PATH = f"{POD_PATH}/status"


def written(server: TinyApi, method: str, path: str) -> list[Any]:
    return [body for verb, where, body in server.requests if (verb, where) == (method, path)]


def test_a_status_is_written_once_for_this_very_pod() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("PATCH", STATUS_PATH, (200, {}))
        writer = StatusWriter(client, POD)
        for _ in range(3):
            writer.put({"phase": "Running"})
            await writer.flush()
        assert written(server, "PATCH", STATUS_PATH) == [{"metadata": {"uid": "u"}, "status": {"phase": "Running"}}]

    with_tiny_api(test)


def test_only_the_newest_status_is_written_after_an_outage() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("PATCH", STATUS_PATH, (503, {}), (200, {}))
        writer = StatusWriter(client, POD)
        writer.put({"phase": "Running"})
        await eventually(lambda: server.requests, "the first attempt")
        writer.put({"phase": "Failed"})
        writer.put({"phase": "Succeeded"})
        await writer.flush()
        assert written(server, "PATCH", STATUS_PATH)[-1]["status"] == {"phase": "Succeeded"}
        assert "Failed" not in json.dumps(server.requests)

    with_tiny_api(test)


def test_a_status_that_somebody_else_changed_is_put_right() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("PATCH", STATUS_PATH, (200, {}))
        writer = StatusWriter(client, POD)
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        writer.put(ready)
        await writer.flush()
        writer.see(ready | {"conditions": [*ready["conditions"], {"type": "PodScheduled", "status": "True"}]})
        await writer.flush()
        assert len(server.requests) == 1
        writer.see(ready | {"conditions": [{"type": "Ready", "status": "False"}]})
        await writer.flush()
        assert [body["status"] for body in written(server, "PATCH", STATUS_PATH)] == [ready, ready]

    with_tiny_api(test)


def test_an_address_takes_the_place_of_the_one_before() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("PATCH", STATUS_PATH, (200, {}))
        writer = StatusWriter(client, POD)
        writer.put({"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]})
        await writer.flush()
        (sent,) = written(server, "PATCH", STATUS_PATH)
        assert sent["status"]["podIPs"] == [{"$patch": "replace"}, {"ip": "10.0.0.2"}]

    with_tiny_api(test)


def test_a_conflict_is_tried_again_and_a_pod_that_is_gone_is_not() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("PATCH", STATUS_PATH, (409, {}), (409, {}), (200, {}))
        writer = StatusWriter(client, POD)
        writer.put({"phase": "Running"})
        await writer.flush()
        assert len(server.requests) == 3
        server.answer("PATCH", STATUS_PATH, (404, {}))
        writer.put({"phase": "Failed"})
        await writer.flush()
        assert len(server.requests) == 4

    with_tiny_api(test)


def test_a_pod_is_removed_with_its_uid_as_the_condition() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        server.answer("DELETE", POD_PATH, (500, {}), (404, {}))
        await delete_for_good(client, POD)
        last = written(server, "DELETE", POD_PATH)[-1]
        assert (last["gracePeriodSeconds"], last["preconditions"]) == (0, {"uid": "u"})

    with_tiny_api(test)


def test_an_event_that_comes_again_is_counted() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        events = EventWriter(client, "node-1", lambda: 1000.0)
        task = asyncio.create_task(events.run())
        for message in ("once", "again", "again"):
            events.tell(POD, "Warning", "BackOff", message)
        await eventually(lambda: len(server.requests) == 3, "three writes")
        task.cancel()
        first, second, third = (body for _, _, body in server.requests)
        assert (first["message"], first["count"], first["source"]["host"]) == ("once", 1, "node-1")
        assert second["involvedObject"]["uid"] == "u"
        assert third == {"count": 2, "lastTimestamp": rfc3339(1000)}

    with_tiny_api(test)


def test_what_the_server_does_not_take_does_not_stop_events() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        path = "/api/v1/namespaces/n/events"
        server.answer("POST", path, (500, {}), (403, {}), (201, {}))
        events = EventWriter(client, "node-1", lambda: 0.0)
        task = asyncio.create_task(events.run())
        for message in ("a", "b", "c"):
            events.tell(POD, "Normal", "Started", message)
        await eventually(lambda: len(server.requests) == 3, "three attempts")
        task.cancel()

    with_tiny_api(test)


def test_tokens_are_bound_and_renewed_when_four_fifths_are_over() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        path = "/api/v1/namespaces/n/serviceaccounts/sa/token"
        expiry = rfc3339(2000.0)
        server.answer(
            "POST",
            path,
            (201, {"status": {"token": "first", "expirationTimestamp": expiry}}),
            (201, {"status": {"token": "second", "expirationTimestamp": expiry}}),
        )
        source = {"path": "token", "audience": "somebody", "expirationSeconds": 1000}
        tokens = TokenSource(client, POD)
        assert tokens.next_renewal == float("inf")
        await tokens.refresh([source], now=1000.0)
        await tokens.refresh([source], now=1799.0)
        assert tokens.text(source) == "first"
        assert tokens.next_renewal == 1800.0
        await tokens.refresh([source], now=1800.0)
        assert tokens.text(source) == "second"
        spec = written(server, "POST", path)[0]["spec"]
        assert (spec["audiences"], spec["expirationSeconds"]) == (["somebody"], 1000)
        assert spec["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}

    with_tiny_api(test)


def test_objects_are_watched_while_somebody_uses_them() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        watch = ObjectWatch(client)
        told: list[str] = []
        watch.use("one", "n", [("configmap", "m")], lambda: told.append("one"))
        watch.use("two", "n", [("configmap", "m")], lambda: told.append("two"))
        assert await watch.get("n", [("configmap", "m")]) == {("configmap", "m"): None}
        await eventually(lambda: server.watches, "the watch is open")
        assert len(watch.objects) == 1
        told.clear()
        server.put("ADDED", {"metadata": {"name": "m"}, "data": {"a": "1"}})
        await eventually(lambda: sorted(told) == ["one", "two"], "both are told")
        found = (await watch.get("n", [("configmap", "m")]))["configmap", "m"]
        assert found is not None
        assert found["data"] == {"a": "1"}
        watch.release("one")
        told.clear()
        server.put("DELETED", {"metadata": {"name": "m"}})
        await eventually(lambda: told == ["two"], "only the other is told")
        assert await watch.get("n", [("configmap", "m")]) == {("configmap", "m"): None}
        watch.release("two")
        assert watch.objects == {}

    with_tiny_api(test)


@pytest.fixture
def configuration(tmp_path: Path) -> NodeConfiguration:
    anywhere = tmp_path / "file"
    files = dict.fromkeys(
        ("ca_file", "cert_file", "key_file", "serving_cert_file", "serving_key_file", "images_file", "hosts_file"),
        anywhere,
    )
    return NodeConfiguration(
        name="node-1",
        address="10.244.1.1",
        pod_cidr="10.244.1.0/24",
        server="",
        state_directory=tmp_path,
        control_socket=tmp_path / "socket",
        lease_renew_seconds=0.02,
        **files,
    )


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


def test_an_order_that_fails_is_answered_with_the_reason(tmp_path: Path) -> None:
    async def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no such thing")

    async def test() -> None:
        control = ControlSocket(tmp_path / "socket", fail)
        await control.start()
        reader, writer = await asyncio.open_unix_connection(str(control.path))
        writer.write(b"{}\n")
        assert json.loads(await reader.readline()) == {"error": "the order failed: RuntimeError('no such thing')"}
        writer.close()
        await writer.wait_closed()
        control.stop()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b'{"status": {}}', {"echo": {"status": {}}}),
        (b"nonsense", {"error": "not a request: Expecting value: line 1 column 1 (char 0)"}),
        (b"", {"error": "not a request: Expecting value: line 2 column 1 (char 1)"}),
    ],
)
def test_the_control_socket_answers_one_line_with_one_line(tmp_path: Path, line: bytes, answer: dict[str, Any]) -> None:
    async def echo(request: dict[str, Any]) -> dict[str, Any]:
        return {"echo": request}

    async def test() -> None:
        path = tmp_path / "folder" / "socket"
        control = ControlSocket(path, echo)
        await control.start()
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(line + b"\n")
        assert json.loads(await reader.readline()) == answer
        writer.close()
        await writer.wait_closed()
        control.stop()
        assert not path.exists()

    asyncio.run(test())
