"""The histories through which an operator is taken by the crash tests: one for each kind, with real planners."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.resources import CLAIM, MODEL_SERVICE, SECRET, TRAINING
from diffusion_operator.loop.kinds import KINDS
from diffusion_operator.observe.snapshot import Raw
from diffusion_operator.plan.kind import Kind
from scripted_pods import MODEL_DIGEST, Script, serve, train_through_a_crash, train_through_an_edit
from tiny_planner import KINDS as TINY_KINDS

API = "diffusion.dev/v1alpha1"


@dataclass(frozen=True)
class Scenario:
    """`begin` makes the objects; `done` looks at all objects of the namespace; `then` is done once, half way."""

    name: str
    kinds: Mapping[str, Kind[Any]]
    objects: Sequence[tuple[Any, Raw]]
    done: Callable[[Sequence[Raw]], bool]
    script: Script = serve
    half_way: Callable[[Sequence[Raw]], bool] | None = None
    change: Callable[[ApiClient, str], Any] | None = None


def status_of(objects: Sequence[Raw], kind: str) -> Mapping[str, Any]:
    """The status of the namespace's one custom resource of a kind."""
    return next((item.get("status", {}) for item in objects if item["kind"] == kind), {})


def condition(status: Mapping[str, Any], kind: str) -> str:
    """The value of one condition, or "" where it is not there."""
    return next((str(item["status"]) for item in status.get("conditions", ()) if item["type"] == kind), "")


def training(name: str = "digits", **spec: Any) -> Raw:
    """A small training on two pools."""
    return {
        "apiVersion": API,
        "kind": "DiffusionTraining",
        "metadata": {"name": name},
        "spec": {
            "dataset": {"uri": "builtin://digits"},
            "model": {"denoiser": {"type": "UNet2DModel", "sampleSize": 8, "channels": 1}},
            "training": {"targetSteps": 100, "globalBatchSize": 64},
            "workers": {"min": 1, "max": 2},
            "pools": [
                {"name": "base", "capacity": "OnDemand", "replicas": 1},
                {"name": "spot", "capacity": "Spot", "max": 1},
            ],
            "checkpoint": {"storage": {"claim": {"size": "1Gi"}}, "interval": {"steps": 50}},
            "publish": {"claim": {"size": "1Gi"}},
            **spec,
        },
    }


def service(name: str = "digits", digest: str = MODEL_DIGEST) -> Raw:
    """A small service of a model version on an existing claim."""
    return {
        "apiVersion": API,
        "kind": "DiffusionService",
        "metadata": {"name": name},
        "spec": {
            "model": {"ref": f"pvc://models/digits@{digest}"},
            "sampling": {"sampler": "Euler", "classes": [{"name": "final", "steps": 20}]},
            "replicas": {"min": 2},
            "auth": {"keysRef": {"name": "keys"}},
        },
    }


def _claim() -> Raw:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": spec}


def _keys() -> Raw:
    data = {"me": base64.b64encode(b"sha256:" + b"0" * 64).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": data}


def _trained(objects: Sequence[Raw]) -> bool:
    jobs = [item for item in objects if item["kind"] == "Job"]
    ended = all(condition(job.get("status", {}), "Complete") == "True" for job in jobs)
    return status_of(objects, "DiffusionTraining").get("phase") == "Succeeded" and ended


def _serves(digest: str) -> Callable[[Sequence[Raw]], bool]:
    def serves(objects: Sequence[Raw]) -> bool:
        status = status_of(objects, "DiffusionService")
        deployments = [item for item in objects if item["kind"] == "Deployment"]
        return condition(status, "Ready") == "True" and digest in str(status.get("stable")) and len(deployments) == 2

    return serves


async def _new_model(client: ApiClient, namespace: str) -> None:
    patch = {"spec": {"model": {"ref": f"pvc://models/digits@sha256:{'e' * 64}"}}}
    await client.merge(MODEL_SERVICE, namespace, "digits", patch)


def _trains(objects: Sequence[Raw]) -> bool:
    return status_of(objects, "DiffusionTraining").get("worldSize") == 1


async def _new_image(client: ApiClient, namespace: str) -> None:
    await client.merge(TRAINING, namespace, "digits", {"spec": {"workers": {"image": "other:2"}}})


TINY = Scenario(
    "tiny",
    TINY_KINDS,
    [(TRAINING, training())],
    lambda objects: status_of(objects, "DiffusionTraining").get("phase") == "Succeeded",
)
EDITED = Scenario(
    "edit", KINDS, [(TRAINING, training())], _trained, train_through_an_edit, half_way=_trains, change=_new_image
)
TRAINED = Scenario("training", KINDS, [(TRAINING, training())], _trained, train_through_a_crash)
ROLLED_OUT = Scenario(
    "service",
    KINDS,
    [(CLAIM, _claim()), (SECRET, _keys()), (MODEL_SERVICE, service())],
    _serves("e" * 12),
    half_way=_serves(MODEL_DIGEST.removeprefix("sha256:")[:12]),
    change=_new_model,
)
