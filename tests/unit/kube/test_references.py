import base64
import time

import pytest

from diffusion_contract.api_key_hash import SHAPE
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import KubeError, Unreachable
from diffusion_operator.kube.fresh_answers import FRESH_SECONDS
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.references import References
from diffusion_operator.kube.store import Store
from diffusion_operator.observe.snapshot import Raw, Reference, Refusal
from scripted_transport import Answer, ScriptedTransport, failure

KEY = Key("DiffusionService", "ns", "draw")
SECRET = Reference("v1", "Secret", "ns", "keys")
CLAIM = Reference("v1", "PersistentVolumeClaim", "ns", "models")
GET_SECRET = "GET /api/v1/namespaces/ns/secrets/keys"
STORED = {
    "metadata": {"name": "keys", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "c2VjcmV0"}},
    "data": {"me": "c2VjcmV0"},
}


Lookup = tuple[References, ScriptedTransport, list[float]]
"""What is tested, its API server, and the time."""


async def secret_of(references: References) -> Raw:
    """The Secret as it is known after a look."""
    found = (await references.look_up(KEY, [SECRET])).found[SECRET]
    assert found is not None
    return found


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch) -> Lookup:
    transport, now = ScriptedTransport(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return References(ApiClient(transport, sleep=_no_pause), Store()), transport, now


async def _no_pause(_seconds: float) -> None:
    return None


async def test_the_values_of_a_secret_never_get_past_here(lookup: Lookup) -> None:
    references, transport, _ = lookup
    transport.say(GET_SECRET, STORED)
    found = await secret_of(references)
    assert found["data"] == {"me": ""}
    assert "c2VjcmV0" not in str(found)


GOOD = "sha256:" + "0a" * 32
FORMS = {"good": (GOOD, SHAPE), "line end": (GOOD + "\n", SHAPE), "plain": ("dk-secret", ""), "empty": ("", "")} | {
    "upper": (GOOD.upper(), ""),
    "short": (GOOD[:-1], ""),
    "long": (GOOD + "0", ""),
    "binary": ("\x80\xff", ""),
}


async def test_of_a_value_it_is_known_only_whether_it_is_the_hash_of_a_key(lookup: Lookup) -> None:
    references, transport, _ = lookup
    data = {name: base64.b64encode(value.encode("latin-1")).decode() for name, (value, _) in FORMS.items()}
    transport.say(GET_SECRET, {**STORED, "data": data})
    found = await secret_of(references)
    assert found["data"] == {name: form for name, (_, form) in FORMS.items()}


async def test_absence_is_an_answer_of_its_own(lookup: Lookup) -> None:
    references, _, _ = lookup
    assert (await references.look_up(KEY, [SECRET, CLAIM])).found == {SECRET: None, CLAIM: None}


async def test_what_may_not_be_read_is_neither_there_nor_absent_and_is_asked_for_again_before_long(
    lookup: Lookup,
) -> None:
    references, transport, now = lookup
    transport.say(GET_SECRET, failure(403, "Forbidden"), STORED)
    expected = Refusal("Secret", "keys", 403, "GET /api/v1/namespaces/ns/secrets/keys: said 403", is_read=True)
    for _ in range(2):
        assert await references.look_up(KEY, [SECRET, CLAIM]) == ({CLAIM: None}, (expected,))
    assert len(transport.asked) == 2, "one each"
    now[0] += FRESH_SECONDS
    found, refused = await references.look_up(KEY, [SECRET])
    assert (set(found), refused) == ({SECRET}, ())


@pytest.mark.parametrize("answer", [failure(401), failure(503), Unreachable("down")], ids=["401", "503", "unreachable"])
async def test_that_nobody_answers_is_no_refusal(lookup: Lookup, answer: Answer) -> None:
    references, transport, _ = lookup
    transport.say(GET_SECRET, answer)
    with pytest.raises(KubeError):
        await references.look_up(KEY, [SECRET])


async def test_an_answer_is_good_for_a_few_seconds(lookup: Lookup) -> None:
    references, transport, now = lookup
    transport.say(GET_SECRET, failure(404), STORED)
    await references.look_up(KEY, [SECRET])
    now[0] += FRESH_SECONDS / 2
    assert (await references.look_up(KEY, [SECRET])).found[SECRET] is None
    assert len(transport.asked) == 1
    now[0] += FRESH_SECONDS
    assert (await references.look_up(KEY, [SECRET])).found[SECRET] is not None


async def test_a_kind_that_the_operator_never_touches_is_a_mistake_in_the_program(lookup: Lookup) -> None:
    with pytest.raises(LookupError, match="does not handle v1 Endpoints"):
        await lookup[0].look_up(KEY, [Reference("v1", "Endpoints", "ns", "x")])
