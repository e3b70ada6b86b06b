import json
import re
from typing import Any

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import ApiRefusal, Conflict, NamespaceEnding, NotFound, TooManyRequests, Unreachable
from diffusion_operator.kube.resources import CONFIG_MAP
from diffusion_operator.kube.transport import Reply
from diffusion_operator.plan.conditions import MESSAGE_LIMIT
from diffusion_operator.plan.plan import ObjectReference
from scripted_transport import Answer, ScriptedTransport, failure

PATH = "/api/v1/namespaces/ns/configmaps/a"
MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}}
Counted = tuple[str, str | float]
"""A pause with its seconds, or a call with its verb and code."""
REFERENCE = ObjectReference("v1", "ConfigMap", "ns", "a", "uid-1", "7")


def client(*script: Answer, method: str = "GET") -> tuple[ApiClient, ScriptedTransport, list[Counted]]:
    transport = ScriptedTransport()
    counted: list[Counted] = []
    transport.say(f"{method} {PATH}", *script)

    async def sleep(seconds: float) -> None:
        counted.append(("sleep", seconds))

    return ApiClient(transport, lambda verb, code, _: counted.append((verb, code)), sleep), transport, counted


def calls(counted: list[Counted]) -> list[Counted]:
    return [entry for entry in counted if entry[0] != "sleep"]


async def test_absence_is_an_answer() -> None:
    api, _, _ = client(failure(404, "NotFound"))
    assert await api.get(CONFIG_MAP, "ns", "a") is None


async def test_a_read_is_tried_again_when_no_answer_came_or_the_server_failed() -> None:
    api, _, counted = client(Unreachable("lost"), failure(500), failure(503), MANIFEST)
    assert await api.get(CONFIG_MAP, "ns", "a") == MANIFEST
    assert calls(counted) == [("GET", "unreachable"), ("GET", "500"), ("GET", "503"), ("GET", "200")]


async def test_a_read_gives_up_in_the_end() -> None:
    api, _, _ = client(Unreachable("lost"))
    with pytest.raises(Unreachable):
        await api.get(CONFIG_MAP, "ns", "a")


@pytest.mark.parametrize("answer", [Unreachable("lost"), failure(500), failure(503)])
async def test_a_write_is_not_repeated_when_it_may_have_been_carried_out(answer: Answer) -> None:
    api, transport, _ = client(answer, MANIFEST, method="PATCH")
    with pytest.raises((Unreachable, ApiRefusal)):
        await api.apply(CONFIG_MAP, MANIFEST)
    assert len(transport.asked) == 1


async def test_a_refused_write_is_repeated_after_the_pause_that_was_asked_for() -> None:
    api, _, counted = client(failure(429, "TooManyRequests", 3), MANIFEST, method="PATCH")
    await api.apply(CONFIG_MAP, MANIFEST)
    assert counted == [("PATCH", "429"), ("sleep", 3), ("PATCH", "200")]


async def test_a_server_that_stays_busy_is_told_so() -> None:
    api, _, counted = client(failure(429, "TooManyRequests", 60), method="PATCH")
    with pytest.raises(TooManyRequests):
        await api.apply(CONFIG_MAP, MANIFEST)
    assert len(calls(counted)) == 4
    assert max(seconds for what, seconds in counted if what == "sleep") == 5, "no longer than the longest pause"


async def test_server_side_apply_names_us_and_takes_over() -> None:
    api, transport, _ = client(MANIFEST, method="PATCH")
    await api.apply(CONFIG_MAP, MANIFEST)
    (asked,) = transport.asked
    assert asked.query == {"fieldManager": "diffusion-operator", "force": "true"}
    assert asked.content_type == "application/apply-patch+yaml"


async def test_a_deletion_carries_what_was_seen_as_preconditions() -> None:
    api, transport, _ = client({}, method="DELETE")
    assert await api.delete(CONFIG_MAP, REFERENCE)
    assert transport.asked[0].body["preconditions"] == {"uid": "uid-1", "resourceVersion": "7"}
    assert transport.asked[0].body["propagationPolicy"] == "Background"


async def test_deleting_what_is_gone_is_success() -> None:
    api, _, _ = client(failure(404, "NotFound"), method="DELETE")
    assert await api.delete(CONFIG_MAP, REFERENCE)


async def test_deleting_what_has_changed_does_nothing() -> None:
    api, _, _ = client(failure(409, "Conflict"), method="DELETE")
    assert not await api.delete(CONFIG_MAP, REFERENCE)


@pytest.mark.parametrize(("code", "error"), [(404, NotFound), (409, Conflict), (422, ApiRefusal), (403, ApiRefusal)])
async def test_a_refusal_says_what_was_asked_and_why_it_was_refused(code: int, error: type[ApiRefusal]) -> None:
    api, _, _ = client(failure(code, "Because"), method="PUT")
    with pytest.raises(error, match=f"{code} Because: PUT {PATH}: said {code}"):
        await api.replace(CONFIG_MAP, MANIFEST)


async def test_of_a_refusal_that_prints_a_whole_template_the_beginning_and_the_end_are_kept() -> None:
    whole = f'Job "a" is invalid: spec.template: Invalid value: {{{"x" * 9000}}}: field is immutable'
    api, _, _ = client(Reply(422, json.dumps({"reason": "Invalid", "message": whole}).encode()), method="PUT")
    with pytest.raises(ApiRefusal) as caught:
        await api.replace(CONFIG_MAP, MANIFEST)
    assert 'Job "a" is invalid: spec.template: Invalid value: ' in caught.value.message
    assert caught.value.message.endswith(": field is immutable")
    assert len(caught.value.message) < MESSAGE_LIMIT


@pytest.mark.parametrize(
    ("details", "error"),
    [
        ({"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}, NamespaceEnding),
        ({"causes": [{"reason": "FieldValueInvalid"}, {}]}, ApiRefusal),
        ({"causes": None}, ApiRefusal),
        (None, ApiRefusal),
    ],
)
async def test_the_cause_tells_a_namespace_that_ends_from_one_that_is_closed(
    details: Any, error: type[ApiRefusal]
) -> None:
    said = {"code": 403, "reason": "Forbidden", "message": "no", "details": details}
    api, _, _ = client(Reply(403, json.dumps(said).encode()), method="PUT")
    with pytest.raises(ApiRefusal) as caught:
        await api.replace(CONFIG_MAP, MANIFEST)
    assert type(caught.value) is error


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b'"ok"', b"[]"])
async def test_what_no_api_server_answers_is_no_answer(body: bytes) -> None:
    api, _, _ = client(Reply(200, body))
    with pytest.raises(Unreachable, match="no JSON object"):
        await api.get(CONFIG_MAP, "ns", "a")
    refusing, _, _ = client(Reply(403, body))
    with pytest.raises(ApiRefusal, match=re.escape(body.decode())):
        await refusing.get(CONFIG_MAP, "ns", "a")


async def test_an_answer_that_is_not_json_is_an_error_with_its_text() -> None:
    api, _, _ = client(Reply(502, b"<html>proxy</html>"), method="PUT")
    with pytest.raises(ApiRefusal, match="<html>proxy"):
        await api.replace(CONFIG_MAP, MANIFEST)
