"""What people read: rendered to text, and compared with what they need to know."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console, RenderableType

from diffusion_operator.cli.parts import age, bar, pod_state, seconds_in_words
from diffusion_operator.cli.service_view import service_view
from diffusion_operator.cli.tables import list_table
from diffusion_operator.cli.training_view import training_view

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEVER_SEEN = {
    "kind": "DiffusionTraining",
    "metadata": {"name": "digits", "namespace": "ns"},
    "spec": {"training": {"targetSteps": 200}},
}


def shown(view: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=160, force_terminal=False).print(view)
    return out.getvalue()


def pod(name: str = "digits-0", uid: str = "u1", state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [{"state": state}] if state else []
    return {
        "metadata": {"name": name, "uid": uid, "labels": {"diffusion.dev/pool": "spot", "diffusion.dev/attempt": "2"}},
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "containerStatuses": containers, **status},
    }


RUNNING = {
    **NEVER_SEEN,
    "status": {
        "phase": "Running",
        "message": "2 of 2 workers train",
        "attempt": 2,
        "generation": 5,
        "progress": {
            "step": 50,
            "targetSteps": 200,
            "display": "50/200",
            "loss": 0.12345,
            "samplesPerSecond": 99.5,
            "estimatedRemainingSeconds": 600,
        },
        "workers": {"display": "2/2"},
        "restarts": {"counted": 1, "disruptions": 3},
        "rendezvous": {"members": [{"uid": "u1"}, {"uid": "u2"}]},
        "checkpoint": {
            "lastCommitted": {"step": 40, "time": "2026-01-01T00:00:00Z"},
            "lastVerified": {"step": 40},
            "skipped": [{"step": 45, "reason": "shard 0 has another digest"}],
        },
        "preemptions": [
            {"time": "2026-01-01T00:00:00Z", "node": "spot-1", "source": "taint", "noticeSeconds": 15, "lostSteps": 0,
             "recoverySeconds": 0.42}
        ],
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "Running", "message": "not yet"},
            {"type": "Stalled", "status": "False", "reason": "Running", "message": "all is well"},
        ],
    },
}  # fmt: skip


def test_a_training_that_nobody_has_looked_at_yet_can_be_shown() -> None:
    text = shown(training_view(NEVER_SEEN, [], []))
    assert "Pending" in text
    assert "0/200 steps (0%)" in text
    assert "none committed yet" in text


def test_a_running_training_says_how_far_it_is_and_what_happened_to_it() -> None:
    event = {"metadata": {}, "reason": "Regrouped", "note": "generation 5 has 2 workers", "series": {"count": 3}}
    text = shown(training_view(RUNNING, [pod(), pod("digits-1", "u2"), pod("digits-2", "u3")], [event]))
    for told in (
        "2 of 2 workers train", "50/200 steps (25%)", "0.1235", "99.5 samples/s", "10 min", "2/2",
        "2, generation 5", "1 counted, 3 by disruptions", "step 40 committed", "step 40 read back and whole",
        "step 45: shard 0 has another digest", "spot-1", "15 s", "0.42 s", "all is well",
        "generation 5 has 2 workers", "master",
    ):  # fmt: skip
        assert told in text, told


def test_a_service_says_where_it_is_and_what_it_serves() -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=3, hours=1)).isoformat()
    item = {
        "kind": "DiffusionService",
        "metadata": {"name": "draw", "namespace": "ns"},
        "spec": {},
        "status": {
            "url": "http://draw.ns.svc:8080",
            "message": "all requests go to revision abc",
            "stable": {"revision": "abc", "model": "pvc://m/d@sha256:1", "since": long_ago},
            "candidate": {"revision": "def", "model": "pvc://m/d@sha256:2", "since": long_ago},
            "replicas": {"ready": 1, "desired": 2},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "message": "it serves"}],
        },
    }
    text = shown(service_view(item, [pod()], []))
    for told in ("http://draw.ns.svc:8080", "revision abc of pvc://m/d@sha256:1", "1 ready of 2", "it serves"):
        assert told in text, told
    assert "@sha256:1, put in place 3d ago" in text
    assert "@sha256:2, begun 3d ago" in text, "a candidate may never come up"
    assert "Unknown" in shown(service_view({**item, "status": {}}, [], []))


def test_the_list_has_both_kinds() -> None:
    service = {"kind": "DiffusionService", "metadata": {"name": "draw", "namespace": "ns"}, "spec": {}}
    text = shown(list_table([RUNNING, service], show_namespace=True))
    assert "50/200" in text
    assert "Waiting" in text
    assert "NAMESPACE" in text
    assert "NAMESPACE" not in shown(list_table([RUNNING], show_namespace=False))


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (86400 * 3, "3d"), (-5, "0s")]
)
def test_ages_are_written_as_kubectl_does(seconds: float, said: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == said
    assert age(None) == "-"


@pytest.mark.parametrize(("seconds", "said"), [(None, "unknown"), (45, "45 s"), (600, "10 min"), (3600 * 3.5, "3.5 h")])
def test_durations_are_in_words(seconds: float | None, said: str) -> None:
    assert seconds_in_words(seconds) == said


@pytest.mark.parametrize(("share", "filled"), [(-1, 0), (0, 0), (0.5, 5), (1, 10), (7, 10)])
def test_a_bar_is_as_full_as_its_share(share: float, filled: int) -> None:
    assert bar(share, 10).plain == "━" * filled + "─" * (10 - filled)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pod(), "Running"),
        (pod(state={"waiting": {"reason": "ImagePullBackOff"}}), "ImagePullBackOff"),
        (pod(state={"terminated": {"reason": "OOMKilled"}}), "OOMKilled"),
        ({**pod(), "metadata": {"deletionTimestamp": "now"}}, "Terminating"),
    ],
)
def test_a_pod_is_in_the_state_that_kubectl_shows(given: dict[str, Any], said: str) -> None:
    assert pod_state(given) == said
