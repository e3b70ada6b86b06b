"""What cannot work is said with the field and the remedy, is not tried for ever, and disturbs nobody else.

All runs that end at once are started together, because a worker's start costs seconds. E2E_FULL=1 runs every case.
"""

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster_fixtures import Kubernetes, access_mode, apply, wait_for
from custom_resource_tables import DIGEST
from line_objects import placed, small_service, small_training
from line_story import MODEL, Line, condition, is_true, line_in_a_namespace, step_of
from trainer_workers import DIVERGING, TINY_UNET

FULL = bool(os.environ.get("E2E_FULL"))


def npz(count: int) -> bytes:
    """A dataset of `count` grey images of 8x8 with labels."""
    stream = io.BytesIO()
    np.savez(stream, images=np.zeros((count, 8, 8), np.uint8), labels=np.zeros(count, np.int64))
    return stream.getvalue()


WHOLE = npz(20)
FILES = {"whole.npz": WHOLE, "empty.npz": npz(0), "truncated.npz": WHOLE[: len(WHOLE) // 2]}


def dataset(name: str, digest: str = "") -> dict[str, Any]:
    """Changes of a training that reads a file of the ConfigMap `line-data`."""
    found = digest or f"sha256:{hashlib.sha256(FILES[name]).hexdigest()}"
    template = {
        "volumes": [{"name": "data", "configMap": {"name": "line-data"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
    }
    return {"spec__dataset": {"uri": f"file:///data/{name}", "digest": found}, "spec__workers__template": template}


@dataclass(frozen=True)
class Refusal:
    """Changes that make a training impossible, how its message is to begin, words of it, and the pod's exit code."""

    changes: dict[str, Any]
    beginning: str
    words: str
    code: int = 64


DENOISER = {"type": "UNet2DModel", "sampleSize": 8, "channels": 1, "config": {**TINY_UNET, "no_such_key": 1}}
DIVERGED = "the training has diverged, the gradient of step "
EVERY_REFUSAL = {
    "diverging": Refusal(
        {f"spec__{section}": changed for section, changed in DIVERGING.items()}, DIVERGED, "learningRate", code=93
    ),
    "truncated": Refusal(dataset("truncated.npz"), "spec.dataset.uri", "is no complete .npz file"),
    "denoiser": Refusal({"spec__model": {"denoiser": DENOISER}}, "spec.model.denoiser.config", "no_such_key"),
    "missing": Refusal(dataset("nowhere.npz", DIGEST), "spec.dataset.uri", "/data/nowhere.npz does not exist"),
    "empty": Refusal(dataset("empty.npz"), "spec.dataset.uri", "holds no samples"),
    "digest": Refusal(dataset("whole.npz", DIGEST), "spec.dataset.digest", "has the digest sha256:"),
}
REFUSALS = EVERY_REFUSAL if FULL else {name: EVERY_REFUSAL[name] for name in ("diverging", "truncated", "denoiser")}
LOCKED = "locked"


@pytest.fixture(scope="module")
def tried(served: Line) -> Line:
    """All refused trainings, and one whose checkpoint folder is read-only, started together."""
    data = {name: base64.b64encode(content).decode() for name, content in FILES.items()}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "binaryData": data}
    served.apply("line-data", config_map)
    claim = {"accessModes": [access_mode()], "resources": {"requests": {"storage": "1Gi"}}}
    served.apply("line-locked", {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": claim})
    served.program(f"import pathlib; pathlib.Path('/volume/{LOCKED}').mkdir(mode=0o555)", "line-locked")
    storage = {"spec__checkpoint__storage": {"existingClaim": "line-locked"}}
    long = {"targetSteps": 100_000, "globalBatchSize": 256}
    served.apply(LOCKED, small_training(**storage, spec__training=long, spec__checkpoint__interval={"steps": 2}))
    for name, refusal in REFUSALS.items():
        served.apply(name, small_training(**refusal.changes))
    return served


@pytest.mark.parametrize("name", REFUSALS)
def test_a_configuration_that_cannot_work_fails_once_and_says_what_to_change(tried: Line, name: str) -> None:
    status = tried.wait(name, lambda now: now.get("phase") in ("Failed", "Succeeded"), 240, "the end")
    failed = condition(status, "Failed")
    assert failed["reason"] == {64: "ConfigurationRefused", 93: "DoNotRetry"}[REFUSALS[name].code]
    assert failed["message"].startswith(REFUSALS[name].beginning)
    assert REFUSALS[name].words in failed["message"]
    assert is_true(status, "Stalled")
    assert (status["attempt"], status["restarts"]["counted"]) == (1, 0), "it is not tried again"
    assert "preemptions" not in status, "nobody took it away"
    wait_for(lambda: not tried.living_pods(name), 60, "no worker is left")
    codes = wait_for(lambda: tried.pods.exit_codes(name), 60, "an exit code")
    assert list(codes.values()) == [REFUSALS[name].code]
    pods = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in tried.pods.of_training(name)}
    assert set(pods) == set(codes), "one pod, and no other"
    log = tried.kubectl("logs", *pods.values())
    assert REFUSALS[name].words in log, "the Job stays, with the log that says why"


def test_a_read_only_checkpoint_folder_is_said_and_training_goes_on(tried: Line) -> None:
    status = tried.wait(
        LOCKED, lambda now: condition(now, "CheckpointSaved").get("status") == "False", 240, "the failed save"
    )
    saved = condition(status, "CheckpointSaved")
    assert saved["reason"] == "StorageReadOnly"
    assert "the checkpoint volume cannot be written" in saved["message"]
    on = tried.wait(LOCKED, lambda now: step_of(now) >= step_of(status) + 10, 120, "ten more steps")
    assert (on["phase"], on["attempt"], on["restarts"]["counted"]) == ("Running", 1, 0)
    assert "lastCommitted" not in on.get("checkpoint", {})
    tried.program(f"import pathlib; pathlib.Path('/volume/{LOCKED}').chmod(0o755)", "line-locked")
    tried.wait(LOCKED, lambda now: is_true(now, "CheckpointSaved"), 120, "a save once it may be written")
    listed = tried.program("import pathlib; print(*pathlib.Path('/volume').glob('*/*/*/*'))", "line-locked").split()
    folders = {Path(file).parent for file in listed}
    assert folders


def test_an_edit_to_an_image_that_does_not_exist_leaves_the_workers_training(tried: Line) -> None:
    before = tried.wait(LOCKED, lambda now: now.get("phase") == "Running", 240, "training")
    tried.patch("dt", LOCKED, {"workers": {"image": "nowhere.invalid/at-all:1"}})
    status = tried.wait(LOCKED, lambda now: condition(now, "Stalled").get("reason") == "ImagePull", 120, "the refusal")
    assert "nowhere.invalid/at-all:1" in status["message"]
    assert status["message"].endswith("; meanwhile 1 of 1 workers train as generation 1")
    tried.wait(LOCKED, lambda now: step_of(now) >= step_of(status) + 10, 120, "ten more steps")
    tried.patch("dt", LOCKED, {"workers": {"image": None}})
    after = tried.wait(LOCKED, lambda now: condition(now, "Ready").get("reason") == "Training", 60, "nothing to refuse")
    assert (after["attempt"], after["rendezvous"]["members"]) == (1, before["rendezvous"]["members"])
    wait_for(lambda: len(tried.living_pods(LOCKED)) == 1, 60, "nothing is tried any more")
    tried.kubectl("delete", "dt", LOCKED, "--wait=false")


def test_a_training_image_that_does_not_exist_is_named(served: Line) -> None:
    served.apply("no-image", small_training(spec__workers__image="nowhere.invalid/at-all:1"))
    status = served.wait("no-image", lambda now: condition(now, "Stalled").get("status") == "True", 90, "Stalled")
    assert condition(status, "Scheduled")["reason"] == "ImagePull"
    assert "nowhere.invalid/at-all:1" in status["message"]
    assert status["phase"] == "Starting"
    served.kubectl("delete", "dt", "no-image", "--wait=false")


BROKEN = """
import json, pathlib, shutil
volume = pathlib.Path("/volume")
shutil.copytree(volume / "digits", volume / "broken", dirs_exist_ok=True)
largest = max((volume / "broken/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
largest.chmod(0o644)
content = bytearray(largest.read_bytes())
content[len(content) // 2] ^= 1
largest.write_bytes(content)
print("broken")
"""


def candidate_refused(status: dict[str, Any]) -> bool:
    """Whether a candidate revision is known not to start, and the old one serves."""
    return is_true(status, "Stalled") and is_true(status, "Available")


def test_a_model_version_with_one_flipped_byte_is_refused_while_the_old_one_serves(served: Line) -> None:
    assert served.program(BROKEN, f"{MODEL}-models") == "broken\n"
    before = served.wait_ready(MODEL)
    reference = before["model"]["reference"].replace(f"/{MODEL}@", "/broken@")
    served.patch("dsv", MODEL, {"model": {"fromTraining": None, "ref": reference}})
    status = served.wait(MODEL, candidate_refused, 240, "the refusal", kind="dsv")
    stalled = condition(status, "Stalled")
    assert stalled["reason"] == "ModelDigestMismatch"
    assert f"revision {before['stable']['revision']} goes on serving" in stalled["message"]
    assert "sha256" in stalled["message"]
    assert status["stable"] == before["stable"]
    answers = served.more_visits(MODEL)
    assert {(one["code"], one["revision"]) for one in answers} == {(200, before["stable"]["revision"])}
    served.patch("dsv", MODEL, {"model": {"fromTraining": {"name": MODEL}, "ref": None}})
    assert served.wait_ready(MODEL)["stable"]["revision"] == before["stable"]["revision"]


def test_a_service_image_that_does_not_exist_leaves_the_old_revision_serving(served: Line) -> None:
    before = served.wait_ready(MODEL)
    served.patch("dsv", MODEL, {"image": "nowhere.invalid/server:1"})
    status = served.wait(MODEL, candidate_refused, 90, "the refusal", kind="dsv")
    assert "nowhere.invalid/server:1" in condition(status, "Stalled")["message"]
    assert {one["code"] for one in served.more_visits(MODEL)} == {200}
    served.patch("dsv", MODEL, {"image": None})
    assert served.wait_ready(MODEL)["stable"]["revision"] == before["stable"]["revision"]


@pytest.fixture
def poor(operator: Kubernetes, tmp_path: Path) -> Iterator[Line]:
    """A namespace whose quota allows no pod."""
    with line_in_a_namespace(operator, tmp_path) as made:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "0"}}}
        apply(operator, placed(quota, "nothing", made.namespace))
        wait_for(lambda: made.get("resourcequota", "nothing").get("status", {}).get("hard"), 30, "the quota")
        yield made


def test_a_quota_of_0_is_said_and_lifting_it_is_enough(poor: Line) -> None:
    publish = {"claim": {"size": "1Gi"}}
    poor.apply("run", small_training(spec__workers__image="nowhere.invalid/at-all:1", spec__publish=publish))
    poor.apply("images", small_service("run"))
    status = poor.wait("run", lambda now: is_true(now, "Stalled"), 90, "Stalled")
    assert condition(status, "Scheduled")["reason"] == "QuotaExceeded"
    assert "exceeded quota: nothing, requested: pods=1, used: pods=0, limited: pods=0" in status["message"]
    assert status["attempt"] == 1
    service = poor.wait("images", lambda now: is_true(now, "Stalled"), 60, "Stalled", kind="dsv")
    assert condition(service, "Stalled")["reason"] == "QuotaExceeded", "that it waits for a model is the lesser news"
    assert not is_true(service, "Available")
    poor.kubectl("delete", "resourcequota", "nothing")
    poor.wait("run", lambda now: condition(now, "Scheduled")["reason"] == "ImagePull", 150, "its pods are made")


REFUSED_BY_THE_SERVER: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"spec__training__tragetSteps": 5}, 'unknown field "spec.training.tragetSteps"'),
    "wrong type": ({"spec__training__targetSteps": "many"}, "spec.training.targetSteps"),
    "two fields": ({"spec__workers": {"min": 3, "max": 2}}, "min must not be above max: raise max, or lower min"),
}


@pytest.mark.parametrize("case", REFUSED_BY_THE_SERVER)
def test_kubectl_apply_shows_what_the_schema_refuses(line: Line, case: str) -> None:
    changes, words = REFUSED_BY_THE_SERVER[case]
    manifest = placed(small_training(**changes), "refused", line.namespace)
    done = line.kubernetes.kubectl("apply", "--filename", "-", input=json.dumps(manifest))
    assert done.returncode != 0
    assert words in done.stderr
    assert not line.get("dt", "refused")


def test_nobody_who_asked_for_an_image_meanwhile_noticed_anything(served: Line) -> None:
    served.more_visits(MODEL)
    visits = served.visits(MODEL)
    assert {visit["code"] for visit in visits} == {200}, [visit for visit in visits if visit["code"] != 200]
    assert len({visit["revision"] for visit in visits}) == 1
