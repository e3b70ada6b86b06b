from datetime import UTC, datetime

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.events import Events
from diffusion_operator.plan.plan import Event
from scripted_transport import ScriptedTransport, failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ABOUT = {
    "apiVersion": "diffusion.dev/v1alpha1",
    "kind": "DiffusionTraining",
    "metadata": {"name": "digits", "namespace": "ns", "uid": "u", "resourceVersion": "5"},
}
MOVED = Event("Moved", "it moved")
POST = "POST /apis/events.k8s.io/v1/namespaces/ns/events"


async def said(transport: ScriptedTransport, *events: Event) -> None:
    recorder = Events(ApiClient(transport), "op-1")
    for event in events:
        await recorder.record(ABOUT, event, NOW)


async def test_the_first_time_makes_an_event_about_the_custom_resource() -> None:
    transport = ScriptedTransport()
    transport.say(POST, {})
    await said(transport, MOVED)
    (asked,) = transport.asked
    assert asked.body["regarding"]["uid"] == "u"
    assert (asked.body["reason"], asked.body["note"], asked.body["type"]) == ("Moved", "it moved", "Normal")
    assert asked.body["reportingInstance"] == "op-1"


async def test_saying_it_again_counts_instead_of_repeating() -> None:
    transport = ScriptedTransport()
    transport.say(POST, {})
    await said(transport, MOVED)
    patch = f"PATCH /apis/events.k8s.io/v1/namespaces/ns/events/{transport.asked[0].body['metadata']['name']}"
    transport.say(patch, {})
    transport.asked.clear()
    await said(transport, MOVED, MOVED, MOVED)
    assert [asked.body.get("series", {}).get("count") for asked in transport.asked] == [None, 2, 3]


async def test_another_sentence_is_another_event() -> None:
    transport = ScriptedTransport()
    transport.say(POST, {})
    await said(transport, MOVED, Event("Moved", "it moved back"), Event("Moved", "it moved", "Warning"))
    assert len({asked.body["metadata"]["name"] for asked in transport.asked}) == 3


async def test_after_a_restart_the_count_goes_on_from_what_is_stored() -> None:
    transport = ScriptedTransport()
    transport.say(POST, {})
    await said(transport, MOVED)
    path = f"/apis/events.k8s.io/v1/namespaces/ns/events/{transport.asked[0].body['metadata']['name']}"
    transport.scripts.clear()
    transport.say(POST, failure(409, "AlreadyExists"))
    transport.say(f"GET {path}", {"series": {"count": 4}})
    transport.say(f"PATCH {path}", {})
    await said(transport, MOVED)
    assert transport.asked[-1].body["series"]["count"] == 5


async def test_an_event_that_the_api_server_has_forgotten_is_made_anew_at_once() -> None:
    transport = ScriptedTransport()
    transport.say(POST, {})
    await said(transport, MOVED, MOVED)
    assert [asked.method for asked in transport.asked] == ["POST", "PATCH", "POST"]
    assert transport.asked[0].body == transport.asked[-1].body


@pytest.mark.parametrize(("letter", "count"), [("x", 1024), ("ä", 512), ("€", 341), ("😀", 256)])
async def test_a_long_sentence_is_cut_to_the_bytes_that_the_api_server_takes(letter: str, count: int) -> None:
    transport = ScriptedTransport()
    transport.say(POST, {})
    await said(transport, Event("Long", letter * 5000))
    assert transport.asked[0].body["note"] == letter * count


async def test_a_long_name_of_the_operator_is_cut_to_what_the_api_server_takes() -> None:
    transport = ScriptedTransport()
    transport.say(POST, {})
    await Events(ApiClient(transport), "o" * 253).record(ABOUT, MOVED, NOW)
    assert len(transport.asked[0].body["reportingInstance"]) == 128
