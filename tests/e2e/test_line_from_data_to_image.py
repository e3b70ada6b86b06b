"""The line from end to end: a dataset, two workers, one taken away twice, a model version, a service, an image.

The tests tell one story in their order, on one run. Where nodes are not ours to take away, it is told without that.
"""

import base64
import io
from itertools import pairwise
from typing import Any

from PIL import Image

from cluster_fixtures import wait_for
from diffusion_local.cluster import Cluster
from line_objects import KEY
from line_story import MODEL as NAME
from line_story import Line, condition, is_true, step_of

NOTICE_SECONDS = 15


def spot_member(status: dict[str, Any]) -> dict[str, Any]:
    """The member of the generation that the cloud may take."""
    return next(one for one in status["rendezvous"]["members"] if "-spot-" in one["pod"])


def cost_of(status: dict[str, Any], member: dict[str, Any]) -> dict[str, Any] | None:
    """What the loss of a member cost; None until a survivor has told that."""
    entries = [one for one in status.get("preemptions", []) if one["uid"] == member["uid"]]
    return entries[0] if entries and "recoverySeconds" in entries[0] and status["worldSize"] == 1 else None


def trains_with(workers: int) -> Any:
    """Whether a status is that of a run that makes steps with this many workers."""
    return lambda status: status.get("worldSize") == workers and step_of(status) > 0


def together(story: Line) -> dict[str, Any]:
    """Two workers that have made a step together."""
    status = story.wait(NAME, trains_with(2), 240, "two workers train", keep_going=True)
    step = step_of(status)
    return story.wait(NAME, lambda now: step_of(now) > step, 60, "a step of both", keep_going=True)


def test_a_service_waits_for_a_model_that_does_not_exist_yet(story: Line) -> None:
    status = story.wait(NAME, lambda now: condition(now, "Ready"), 30, "a verdict", kind="dsv")
    assert condition(status, "Ready")["reason"] == "WaitingForTraining"
    assert NAME in condition(status, "Ready")["message"]


def test_two_workers_train_one_on_demand_and_one_on_spot(story: Line) -> None:
    status = story.wait(NAME, trains_with(2), 240, "two workers train", keep_going=True)
    pools = {pod["metadata"]["labels"]["diffusion.dev/pool"] for pod in story.living_pods(NAME)}
    assert pools == {"base", "spot"}
    assert status["phase"] == "Running"
    status = story.wait(NAME, lambda now: now["progress"].get("loss"), 60, "a loss", keep_going=True)
    assert 0 < status["progress"]["loss"] < 10


def test_a_spot_node_that_gives_notice_costs_no_step(story: Line, embedded: Cluster) -> None:
    before = together(story)
    leaver = spot_member(before)
    embedded.preempt_node(leaver["node"], NOTICE_SECONDS)
    after = story.wait(NAME, lambda now: cost_of(now, leaver), 90, "one worker goes on", keep_going=True)
    cost = cost_of(after, leaver) or {}
    assert cost["lostSteps"] == 0
    assert cost["node"] == leaver["node"]
    assert wait_for(lambda: story.pods.exit_codes(NAME).get(leaver["uid"]), 60, "the leaver's exit code") == 75
    saved = story.wait(
        NAME, lambda now: now.get("checkpoint", {}).get("lastCommitted"), 60, "a commit", keep_going=True
    )
    assert saved["checkpoint"]["lastCommitted"]["step"] >= step_of(before), "the step that it left at is committed"
    assert (after["attempt"], after["restarts"]["counted"]) == (1, 0), "a disruption is not a crash"
    story.wait(NAME, lambda now: step_of(now) > step_of(after), 60, "the one that is left goes on", keep_going=True)


def test_a_new_spot_node_makes_two_workers_again(story: Line, embedded: Cluster) -> None:
    step = step_of(story.status(NAME))
    embedded.add_node(spot=True)
    status = together(story)
    assert step_of(status) >= step
    assert status["attempt"] == 1


def test_a_node_that_dies_without_notice_costs_at_most_the_step_in_flight(story: Line, embedded: Cluster) -> None:
    before = together(story)
    victim = spot_member(before)
    embedded.kill_node(victim["node"])
    after = story.wait(NAME, lambda now: cost_of(now, victim), 90, "the survivor goes on", keep_going=True)
    cost = cost_of(after, victim) or {}
    assert cost["lostSteps"] <= 1
    assert cost["recoverySeconds"] < 30
    assert victim["uid"] not in [one["uid"] for one in after["rendezvous"]["members"]]
    assert (after["attempt"], after["restarts"]["counted"]) == (1, 0)
    story.wait(NAME, lambda now: step_of(now) > step_of(before) + 2, 60, "more steps", keep_going=True)
    story.kubectl("delete", "node", victim["node"])  # as a cloud's controller does when a machine is gone


def test_it_succeeds_with_a_published_model_version(story: Line) -> None:
    status = story.wait(NAME, lambda now: now.get("phase") in ("Succeeded", "Failed"), 300, "the end")
    assert status["phase"] == "Succeeded", status["message"]
    assert is_true(status, "Complete")
    assert is_true(status, "Published")
    assert is_true(status, "Ready")
    target = status["progress"]["targetSteps"]
    assert step_of(status) == status["checkpoint"]["lastCommitted"]["step"] == status["published"]["step"] == target
    assert status["published"]["reference"] == f"pvc://{NAME}-models/{NAME}@{status['published']['digest']}"
    wait_for(lambda: not story.living_pods(NAME), 60, "all workers have ended")
    assert set(story.pods.exit_codes(NAME).values()) <= {0, 75, 137}


def test_no_step_was_told_twice(story: Line) -> None:
    """The committed checkpoints stand in one row, each newer than the one before."""
    program = "import pathlib; print(*sorted(p.name for p in pathlib.Path('/volume').glob('*/*/step-*')))"
    steps = [int(name.removeprefix("step-")) for name in story.program(program, f"{NAME}-checkpoints").split()]
    assert all(earlier < later for earlier, later in pairwise(steps))
    assert steps[-1] == story.status(NAME)["published"]["step"]


def test_the_service_takes_the_model_over_and_draws_through_its_router(story: Line) -> None:
    status = story.wait_ready(NAME)
    assert status["model"]["reference"] == story.status(NAME)["published"]["reference"]
    asked = {"label": 3, "seed": 7, "class": "quick"}
    first, again, other, stranger, nobody, nonsense = story.ask(
        NAME,
        (asked, KEY), (asked, KEY), (asked | {"seed": 8}, KEY), (asked, "wrong"), (asked, ""), ({"steps": -1}, KEY),
    )  # fmt: skip
    assert first["code"] == 200, first
    picture = Image.open(io.BytesIO(base64.b64decode(first["png"])))
    assert (picture.format, picture.size) == ("PNG", (8, 8))
    assert first["png"] == again["png"], "the same seed is the same image"
    assert first["png"] != other["png"]
    assert (stranger["code"], nobody["code"]) == (401, 401)
    assert nonsense["code"] == 400
    assert "steps" in nonsense["error"]["message"]


def test_kubectl_diffusion_says_what_became_of_both(story: Line) -> None:
    done = story.kubernetes.kubectl("diffusion", "describe", NAME, "--namespace", story.namespace)
    assert done.returncode == 0, done.stderr
    assert f"DiffusionTraining {story.namespace}/{NAME}" in done.stdout
    assert f"DiffusionService {story.namespace}/{NAME}" in done.stdout
    assert story.status(NAME)["published"]["digest"] in done.stdout
    assert story.status(NAME, "dsv")["stable"]["revision"] in done.stdout
