"""Events are asked for where pods are missing, by the UID of what they are about, and not in each pass."""

import time
from typing import Any

import pytest

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.creation_failures import CreationFailures
from diffusion_operator.kube.fresh_answers import FRESH_SECONDS
from diffusion_operator.observe.creation_failures import jobs_short_of_pods
from scripted_transport import ScriptedTransport, failure
from world_builders import job, pod

LIST = "GET /apis/events.k8s.io/v1/namespaces/team/events"


async def test_an_answer_is_good_for_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    transport, now = ScriptedTransport(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    failures = CreationFailures(ApiClient(transport))
    transport.say(LIST, {"items": [{"note": "no"}]})
    for seconds, asked in ((0, 1), (FRESH_SECONDS - 1, 1), (2, 2)):
        now[0] += seconds
        assert await failures.look_up("team", ["u1"]) == {"u1": ({"note": "no"},)}
        assert len(transport.asked) == asked
    assert transport.asked[0].query["fieldSelector"] == "regarding.uid=u1,reason=FailedCreate"


async def test_events_that_cannot_be_read_stop_nothing() -> None:
    transport = ScriptedTransport()
    transport.say(LIST, failure(403, "Forbidden"))
    assert await CreationFailures(ApiClient(transport)).look_up("team", ["u1"]) == {"u1": ()}


def test_only_jobs_at_which_their_controller_has_looked_are_short_of_pods() -> None:
    looked: dict[str, Any] = {"startTime": "2026-01-01T11:00:00Z"}
    jobs = {
        "new": job("new"),
        "short": job("short", size=2, active=1, **looked),
        "full": job("full", active=1, **looked),
        "ended": job("ended", conditions=[{"type": "Failed", "status": "True"}], **looked),
        "going": job("going", **looked),
    }
    jobs["going"]["metadata"]["deletionTimestamp"] = looked["startTime"]
    assert jobs_short_of_pods((pod("a"), *jobs.values())) == ("uid-job-short-1",)
