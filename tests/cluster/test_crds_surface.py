"""What people see of the two kinds with kubectl: defaults, explanations, columns, names, and the scale subresource."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster_fixtures import apply, fresh_namespace, get
from custom_resource_tables import DIGEST, CustomResources, install_crds, service, training
from diffusion_local.cluster import Cluster


@pytest.fixture(scope="module")
def place(control_plane: Cluster) -> Iterator[str]:
    install_crds(control_plane)
    with fresh_namespace(control_plane) as namespace:
        yield namespace


@pytest.fixture
def resources(control_plane: Cluster, place: str) -> Iterator[CustomResources]:
    client = CustomResources(control_plane, place)
    yield client
    client.close()


def test_defaults_of_a_training(resources: CustomResources) -> None:
    assert resources.create(training(), dry_run=True)["spec"] == {
        "model": {
            "denoiser": {"type": "UNet2DModel", "sampleSize": 8, "channels": 1},
            "conditioning": {"type": "None", "dropout": 0.1},
        },
        "diffusion": {
            "schedule": {"type": "Linear", "timesteps": 1000, "betaStart": 0.0001, "betaEnd": 0.02, "shift": 1},
            "prediction": "Epsilon",
        },
        "dataset": {"uri": "builtin://digits"},
        "training": {
            "targetSteps": 100,
            "globalBatchSize": 64,
            "seed": 0,
            "optimizer": {"type": "AdamW", "learningRate": 0.001, "weightDecay": 0.01, "gradientClip": 1},
            "learningRateSchedule": {"type": "Constant", "warmupSteps": 0},
            "ema": {"decay": 0.999},
            "precision": "FP32",
            "strategy": "DDP",
        },
        "workers": {"min": 1, "max": 1, "processesPerWorker": 1},
        "checkpoint": {
            "storage": {"claim": {"size": "1Gi", "accessModes": ["ReadWriteMany"]}},
            "interval": {"seconds": 300},
            "onPreemption": True,
            "retain": {"last": 3},
        },
        "failurePolicy": {"maxRestarts": 10},
        "suspend": False,
    }


def test_defaults_of_a_service(resources: CustomResources) -> None:
    assert resources.create(service(), dry_run=True)["spec"] == {
        "model": {"ref": f"pvc://models/digits@{DIGEST}"},
        "sampling": {"sampler": "DDIM", "guidanceScale": 1, "classes": [{"name": "final", "steps": 20}]},
        "batching": {"maxBatch": 16},
        "replicas": {"min": 1},
        "auth": {"keysRef": {"name": "digits-keys"}},
    }


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("dt.spec.workers.min", "Fewest workers with which the run goes on, 1 to 256"),
        ("dt.spec.checkpoint.interval.seconds", "Seconds between two checkpoints, 1 to 31536000"),
        ("dt.status.progress.estimatedRemainingSeconds", "Estimated seconds until the target step"),
        ("dsv.spec.sampling.guidanceScale", "0 to 50"),
        ("dsv.spec.model.ref", "A tag is refused"),
        ("dsv.spec.replicas.min", "kubectl scale"),
    ],
)
def test_explain_says_what_a_field_means(control_plane: Cluster, place: str, path: str, words: str) -> None:
    explained = control_plane.kubectl("explain", path)
    assert words in " ".join(explained.stdout.split()), explained.stderr


def test_explain_shows_the_whole_tree(control_plane: Cluster, place: str) -> None:
    for kind, field in (("dt", "betaStart"), ("dsv", "maxBatch")):
        assert field in control_plane.kubectl("explain", kind, "--recursive").stdout


def _columns(control_plane: Cluster, place: str, *args: str) -> list[dict[str, str]]:
    """The rows of `kubectl get` by column; columns are told apart by where their headings begin."""
    lines = control_plane.kubectl("get", "-n", place, *args).stdout.splitlines()
    starts = [i for i, c in enumerate(lines[0]) if c != " " and (i == 0 or lines[0][i - 1] == " ")]
    ends = [*starts[1:], None]
    spans = list(zip(starts, ends, strict=True))
    return [{lines[0][a:b].strip(): line[a:b].strip() for a, b in spans} for line in lines[1:]]


def test_columns_of_a_training(control_plane: Cluster, place: str, resources: CustomResources) -> None:
    stored = resources.create(training())
    name = stored["metadata"]["name"]
    resources.put_status(
        stored,
        {
            "phase": "Running",
            "message": "3 of 4 workers train",
            "progress": {"step": 1200, "targetSteps": 2000, "display": "1200/2000", "loss": 0.25},
            "workers": {"ready": 3, "desired": 4, "display": "3/4"},
            "restarts": {"counted": 1, "disruptions": 2},
            "checkpoint": {"lastCommitted": {"step": 1000, "digest": DIGEST, "time": "2026-01-01T00:00:00Z"}},
        },
    )
    (row,) = _columns(control_plane, place, "dt", name)
    assert list(row) == ["NAME", "PHASE", "STEP", "WORKERS", "LOSS", "RESTARTS", "AGE"]
    assert (row["PHASE"], row["STEP"], row["WORKERS"]) == ("Running", "1200/2000", "3/4")
    assert (row["LOSS"], row["RESTARTS"]) == ("0.25", "1")
    (wide,) = _columns(control_plane, place, "dt", name, "-o", "wide")
    assert (wide["CHECKPOINT"], wide["MESSAGE"]) == ("1000", "3 of 4 workers train")


def test_columns_of_a_service(control_plane: Cluster, place: str, resources: CustomResources) -> None:
    stored = resources.create(service())
    name = stored["metadata"]["name"]
    model = f"pvc://models/digits@{DIGEST}"
    resources.put_status(
        stored,
        {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Serving",
                    "message": "well",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
            "stable": {"revision": "aaaaaaaaaa", "model": model, "shortDigest": "0123456789ab"},
            "candidate": {"revision": "bbbbbbbbbb", "model": model},
            "replicas": {"desired": 2, "ready": 1, "display": "1/2"},
            "message": "well",
        },
    )
    (row,) = _columns(control_plane, place, "dsv", name)
    assert list(row) == ["NAME", "READY", "MODEL", "CANDIDATE", "REPLICAS", "AGE"]
    assert [row[c] for c in ("READY", "MODEL", "CANDIDATE", "REPLICAS")] == [
        "True",
        "0123456789ab",
        "bbbbbbbbbb",
        "1/2",
    ]
    (wide,) = _columns(control_plane, place, "dsv", name, "-o", "wide")
    assert list(wide) == [*row, "MESSAGE"]
    assert wide["MESSAGE"] == "well"


def test_one_category_lists_both_kinds_and_no_short_name_is_taken(control_plane: Cluster, place: str) -> None:
    apply(
        control_plane, *(raw | {"metadata": raw["metadata"] | {"namespace": place}} for raw in (training(), service()))
    )
    both = control_plane.kubectl("get", "diffusion", "-n", place, "-o", "name")
    assert {line.split("/")[0] for line in both.stdout.split()} == {
        "diffusiontraining.diffusion.dev",
        "diffusionservice.diffusion.dev",
    }
    assert (
        not control_plane.kubectl("get", "dt,dsv,ds", "-n", place)
        .stderr.replace("No resources found", "")
        .count("lower priority")
    )


def test_scale_reads_and_writes_the_number_of_engines(
    control_plane: Cluster, place: str, resources: CustomResources
) -> None:
    stored = resources.create(service())
    name = stored["metadata"]["name"]
    scaled = control_plane.kubectl("scale", f"dsv/{name}", "-n", place, "--replicas=3")
    assert scaled.returncode == 0, scaled.stderr
    current = get(control_plane, "dsv", name, "-n", place)
    assert current["spec"]["replicas"] == {"min": 3}
    assert current["metadata"]["generation"] == 2
    resources.put_status(current, {"replicas": {"stable": 2}, "selector": "a=b"})
    path = f"/apis/diffusion.dev/v1alpha1/namespaces/{place}/diffusionservices/{name}/scale"
    scale: dict[str, Any] = json.loads(control_plane.kubectl("get", "--raw", path).stdout)
    assert (scale["spec"]["replicas"], scale["status"]) == (3, {"replicas": 2, "selector": "a=b"})
    too_many = control_plane.kubectl("scale", f"dsv/{name}", "-n", place, "--replicas=101")
    assert "less than or equal to 100" in too_many.stderr


def test_a_status_write_changes_no_spec_and_no_generation(resources: CustomResources) -> None:
    stored = resources.create(training())
    changed = {**stored, "spec": {**stored["spec"], "suspend": True}}
    kept = resources.put_status(changed, {"phase": "Pending"})
    assert kept == {"phase": "Pending"}


def test_a_status_with_a_field_that_nobody_declared_loses_it(resources: CustomResources) -> None:
    """So every field that a plan writes must be declared, or it would be written again in every pass."""
    stored = resources.create(service())
    assert resources.put_status(stored, {"message": "a", "mystery": 1}) == {"message": "a"}
