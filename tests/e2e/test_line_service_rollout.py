"""A service is rolled over, scaled and set up wrongly on the real line, while a visitor asks it for images.

The visitor comes from the first second on, so what it is answered before Ready is counted as well; after Ready nobody
is to notice anything.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chart_rendering import NAMESPACE
from cluster_fixtures import apply, get, wait_for
from diffusion_local.cluster import Cluster
from line_objects import small_service
from line_story import MODEL, Line, condition, is_true, kill_processes_with

NAME = "rolled"
Visit = dict[str, Any]


@pytest.fixture(scope="module")
def rolled(served: Line) -> Line:
    """A second service of the same model version, and a visitor that asks it before it can answer."""
    served.apply(NAME, small_service(MODEL, spec__model={"ref": published(served)}))
    served.wait(NAME, lambda status: status.get("url"), 60, "an address", kind="dsv")
    served.start_visitor(NAME)
    return served


def published(line: Line) -> str:
    """The reference of the model version that the line has published."""
    reference: str = line.status(MODEL)["published"]["reference"]
    return reference


def visits_since(line: Line, moment: float, at_least: int = 3) -> list[Visit]:
    """What the visitor was answered to requests that it sent after `moment`; waits until there are some."""

    def after() -> list[Visit]:
        return [visit for visit in line.visits(NAME) if visit["began"] > moment]

    wait_for(lambda: len(after()) >= at_least, 60, f"{at_least} visits")
    return after()


def codes(visits: list[Visit]) -> set[int]:
    """The HTTP statuses that were answered."""
    return {visit["code"] for visit in visits}


def serves_another(revision: str) -> Callable[[dict[str, Any]], bool]:
    """Whether another revision was promoted."""
    return lambda status: status["stable"]["revision"] != revision


def deployments_of(line: Line, revision: str) -> list[Any]:
    """The engine Deployments of a revision of this service; another one of the same content has the same revision."""
    selector = f"--selector=diffusion.dev/service={NAME},diffusion.dev/revision={revision}"
    found: list[Any] = get(line.kubernetes, "deploy", "-n", line.namespace, selector)["items"]
    return found


def test_the_first_request_after_ready_is_answered(rolled: Line) -> None:
    rolled.kubectl("wait", f"dsv/{NAME}", "--for=condition=Ready", "--timeout=180s")
    moment = time.time()
    visits = visits_since(rolled, moment)
    assert codes(visits) == {200}, visits


def check_rollout(line: Line, before: str, began: float) -> str:
    """Wait until the revision `before` is gone, and check what the visitor saw; returns the new revision."""
    status = line.wait(NAME, lambda now: is_true(now, "Ready") and serves_another(before)(now), 180, "it serves",
                       kind="dsv")  # fmt: skip
    arrived, after = time.time(), status["stable"]["revision"]
    assert status["router"]["revision"] == after
    assert deployments_of(line, before), "images are finished before the old engines go"
    line.wait(NAME, lambda _: not deployments_of(line, before), 60, "the old revision is gone", kind="dsv")
    visits = visits_since(line, began)
    assert codes(visits) == {200}, [visit for visit in visits if visit["code"] != 200]
    assert {visit["revision"] for visit in visits} == {before, after}
    late = [visit for visit in visits_since(line, arrived) if visit["revision"] != after]
    assert not late, "nobody is sent back"
    return str(after)


def test_a_rollout_goes_one_way_and_is_not_noticed(rolled: Line) -> None:
    before = rolled.wait_ready(NAME)["stable"]["revision"]
    began = time.time()
    visits_since(rolled, began, at_least=1)
    rolled.patch("dsv", NAME, {"batching": {"maxBatch": 5}})
    check_rollout(rolled, before, began)


def test_an_operator_that_is_killed_in_a_rollout_changes_nothing_for_visitors(rolled: Line, embedded: Cluster) -> None:
    before = rolled.wait_ready(NAME)["stable"]["revision"]
    began = time.time()
    visits_since(rolled, began, at_least=1)
    (pod,) = get(rolled.kubernetes, "pods", "-n", NAMESPACE)["items"]
    rolled.patch("dsv", NAME, {"batching": {"maxBatch": 6}})
    rolled.wait(NAME, serves_another(before), 120, "the promotion is stored", kind="dsv")
    kill_processes_with(f"POD_NAME={pod['metadata']['name']}")
    check_rollout(rolled, before, began)


def is_ready_with(display: str, status: dict[str, Any]) -> bool:
    return is_true(status, "Ready") and status["replicas"]["display"] == display


def test_kubectl_scale_reaches_the_pods(rolled: Line) -> None:
    for number in (2, 1):
        rolled.kubectl("scale", f"dsv/{NAME}", f"--replicas={number}")
        display = f"{number}/{number}"
        status = rolled.wait(NAME, partial(is_ready_with, display), 120, display, kind="dsv")
        (deployment,) = deployments_of(rolled, status["stable"]["revision"])
        assert deployment["status"]["readyReplicas"] == number
    assert codes(rolled.more_visits(NAME)) == {200}


MALFORMED = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "malformed"},
    "stringData": {"alice": "dk-plain"},
}
SET_UP_WRONGLY: dict[str, tuple[Callable[[str], dict[str, Any]], str, str]] = {
    "no-version": (
        lambda reference: {"spec__model": {"ref": reference.partition("@")[0] + "@sha256:" + "0" * 64}},
        "ModelNotFound",
        "cannot start",
    ),
    "no-claim": (
        lambda reference: {"spec__model": {"ref": reference.replace("pvc://", "pvc://nowhere-")}},
        "ModelClaimNotFound",
        "nowhere-",
    ),
    "no-secret": (lambda _: {"spec__auth__keysRef__name": "nowhere"}, "KeysNotFound", "the Secret nowhere"),
    "bad-secret": (lambda _: {"spec__auth__keysRef__name": "malformed"}, "KeysInvalid", "alice"),
}


@pytest.mark.parametrize("name", SET_UP_WRONGLY)
def test_what_a_service_lacks_is_named(served: Line, name: str) -> None:
    changes, reason, words = SET_UP_WRONGLY[name]
    reference = published(served)
    if name == "bad-secret":
        apply(served.kubernetes, {**MALFORMED, "metadata": {"name": "malformed", "namespace": served.namespace}})
    served.apply(name, small_service(MODEL, **({"spec__model": {"ref": reference}} | changes(reference))))
    status = served.wait(name, lambda now: is_true(now, "Stalled"), 120, "Stalled", kind="dsv")
    assert condition(status, "Stalled")["reason"] == reason
    assert words in status["message"]
    assert not is_true(status, "Available")
    served.kubectl("delete", "dsv", name, "--wait=false")
