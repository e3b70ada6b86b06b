"""What the node agent writes and keeps up to date: statuses, events, tokens, ConfigMaps and Secrets."""

import asyncio
import json
from typing import Any

from diffusion_local.node.api_client import ApiClient
from diffusion_local.node.events import EventWriter
from diffusion_local.node.moments import rfc3339
from diffusion_local.node.object_watch import ObjectWatch
from diffusion_local.node.service_account_token import TokenSource
from diffusion_local.node.status_writer import StatusWriter, delete_for_good
from tiny_api import TinyApi, eventually, with_tiny_api, written

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u"},
    "spec": {"serviceAccountName": "sa"},
    "status": {"phase": "Pending"},
}
POD_PATH = "/api/v1/namespaces/n/pods/p"
STATUS_PATH = f"{POD_PATH}/status"


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
            events.tell(POD, "Warning", "BackOff", message, "main")
        await eventually(lambda: len(server.requests) == 3, "three writes")
        task.cancel()
        first, second, third = (body for _, _, body in server.requests)
        assert (first["message"], first["count"], first["source"]["host"]) == ("once", 1, "node-1")
        assert second["involvedObject"]["uid"] == "u"
        assert second["involvedObject"]["fieldPath"] == "spec.containers{main}"
        assert third == {"count": 2, "lastTimestamp": rfc3339(1000)}

    with_tiny_api(test)


def test_an_event_whose_first_was_lost_is_written_when_it_comes_again() -> None:
    async def test(server: TinyApi, client: ApiClient) -> None:
        path = "/api/v1/namespaces/n/events"
        server.answer("POST", path, (503, {}), (201, {}))
        events = EventWriter(client, "node-1", lambda: 1000.0)
        events.tell(POD, "Warning", "BackOff", "again")
        events.tell(POD, "Warning", "BackOff", "again")
        name = next(iter(events.written.values()))["metadata"]["name"]
        server.answer("PATCH", f"{path}/{name}", (404, {}))
        task = asyncio.create_task(events.run())
        await eventually(lambda: len(server.requests) == 3, "three writes")
        task.cancel()
        assert [event["count"] for event in written(server, "POST", path)] == [1, 2]

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
