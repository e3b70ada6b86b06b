from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.errors import Unreachable
from diffusion_operator.kube.fencing import FencedTransport
from diffusion_operator.kube.resources import CONFIG_MAP
from diffusion_operator.plan.plan import ObjectReference
from scripted_transport import ScriptedTransport, failure

NAMED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "ns", "name": "a"}}
PATH = "/api/v1/namespaces/ns/configmaps"
SEEN = ObjectReference("v1", "ConfigMap", "ns", "a", "uid", "1")

Write = Callable[[ApiClient], Awaitable[Any]]

WRITES: dict[str, Write] = {
    "create": lambda client: client.create(CONFIG_MAP, NAMED),
    "apply": lambda client: client.apply(CONFIG_MAP, NAMED),
    "merge": lambda client: client.merge(CONFIG_MAP, "ns", "a", {}),
    "replace": lambda client: client.replace(CONFIG_MAP, NAMED),
    "delete": lambda client: client.delete(CONFIG_MAP, SEEN),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_who_no_longer_leads_sends_no_write_and_still_reads(write: Write) -> None:
    transport, leads = ScriptedTransport(), True
    client = ApiClient(FencedTransport(transport, lambda: leads))
    transport.say(f"GET {PATH}/a", NAMED)
    for method, path in (("POST", PATH), *((method, f"{PATH}/a") for method in ("PATCH", "PUT", "DELETE"))):
        transport.say(f"{method} {path}", NAMED)
    await write(client)
    assert len(transport.asked) == 1
    leads = False
    with pytest.raises(Unreachable, match="another may lead"):
        await write(client)
    assert await client.get(CONFIG_MAP, "ns", "a") == NAMED
    assert [asked.method for asked in transport.asked[1:]] == ["GET"]


async def test_a_write_that_is_tried_again_is_judged_again() -> None:
    transport, answers = ScriptedTransport(), iter([True, False])
    transport.say(f"POST {PATH}", failure(429, "TooManyRequests", 0))

    async def no_pause(_seconds: float) -> None:
        return None

    with pytest.raises(Unreachable, match="another may lead"):
        await ApiClient(FencedTransport(transport, lambda: next(answers)), sleep=no_pause).create(CONFIG_MAP, NAMED)
    assert len(transport.asked) == 1
