"""No silent field: changing any field of the spec changes what is made, said or told, or is refused."""

import copy
from collections.abc import Iterator
from typing import Any

from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.plan.training import decide_training
from world_builders import NOW, claim, custom_resource, job, pod, record, training_status, world

FULL: dict[str, Any] = {
    "model": {
        "denoiser": {"type": "UNet2DModel", "sampleSize": 8, "channels": 1, "config": {"layers_per_block": 1}},
        "conditioning": {"type": "Class", "classes": 10, "dropout": 0.1},
    },
    "diffusion": {
        "schedule": {"type": "Linear", "timesteps": 1000, "betaStart": 0.0001, "betaEnd": 0.02, "shift": 1.0},
        "prediction": "Epsilon",
    },
    "dataset": {"uri": "builtin://digits", "digest": "sha256:" + "a" * 64},
    "training": {
        "targetSteps": 20,
        "globalBatchSize": 64,
        "seed": 1,
        "optimizer": {"type": "AdamW", "learningRate": 0.001, "weightDecay": 0.01, "gradientClip": 1.0},
        "learningRateSchedule": {"type": "Constant", "warmupSteps": 10},
        "ema": {"decay": 0.99},
        "precision": "FP32",
        "strategy": "DDP",
    },
    "workers": {
        "min": 1,
        "max": 3,
        "processesPerWorker": 1,
        "image": "trainer:2",
        "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}},
        "template": {
            "labels": {"a": "b"},
            "annotations": {"a": "b"},
            "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}],
            "affinity": {
                "podAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}
                    ]
                }
            },
            "topologySpreadConstraints": [
                {
                    "topologyKey": "zone",
                    "maxSkew": 1,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"x": "y"}},
                }
            ],
            "env": [{"name": "A", "value": "1"}],
            "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}],
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s", "readOnly": True}],
            "imagePullSecrets": [{"name": "s"}],
            "runtimeClassName": "r",
            "schedulerName": "s",
        },
    },
    "pools": [
        {"name": "base", "capacity": "OnDemand", "replicas": 1, "nodeSelector": {"x": "y"}},
        {"name": "spot", "capacity": "Spot", "max": 2, "tolerations": [{"key": "k", "operator": "Exists"}]},
    ],
    "checkpoint": {
        "storage": {"claim": {"size": "1Gi", "storageClassName": "c", "accessModes": ["ReadWriteMany"]}},
        "interval": {"steps": 5},
        "onPreemption": True,
        "retain": {"last": 3},
    },
    "failurePolicy": {"maxRestarts": 10},
    "suspend": False,
    "publish": {
        "name": "m",
        "claim": {"size": "1Gi", "storageClassName": "c", "accessModes": ["ReadWriteMany"]},
        "card": {"license": "CC0-1.0", "intendedUse": "tests"},
    },
}

OTHER_WORDS = {
    "UNet2DModel": "DiT",
    "OnDemand": "Spot",
    "Spot": "OnDemand",
    "Linear": "Cosine",
    "Constant": "Cosine",
    "FP32": "BF16",
    "Equal": "Exists",
    "NoSchedule": "NoExecute",
    "DoNotSchedule": "ScheduleAnyway",
    "ReadWriteMany": "ReadWriteOnce",
}
ONLY_ONE = {"AdamW", "DDP"}
"""Words that are the only one of their field for now: there is nothing to change them to."""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every scalar in `value`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    if isinstance(value, list):
        return [{"x": 1}]
    return OTHER_WORDS.get(value, value.replace("1", "2") if "1" in value else f"{value}x")


def answers(spec: dict[str, Any]) -> list[Any]:
    """What is made and said of a run that is new, has its attempt, trains, or crashed once too often."""
    crashed = training_status("a", restarts={"counted": 10})
    claims = (claim("digits-checkpoints"), claim("digits-models"))
    trains = training_status("a")
    facts = [
        world(spec=spec),
        world(*claims, spec=spec, status=training_status()),
        world(*claims, job(active=1), pod("a"), spec=spec, status=trains, records=(record("a", step=1),)),
        world(job(), pod("a", exit_code=1), spec=spec, status=crashed),
    ]
    plans = [decide_training(one, NOW) for one in facts]
    return [(plan.apply, plan.status, plan.instructions) for plan in plans]


def test_every_field_of_the_spec_does_something_or_is_refused() -> None:
    before = answers(FULL)
    paths = list(leaves(FULL))
    silent = []
    for path in paths:
        spec = copy.deepcopy(FULL)
        place: Any = spec
        for part in path[:-1]:
            place = place[part]
        if str(place[path[-1]]) in ONLY_ONE:
            continue
        place[path[-1]] = changed(place[path[-1]])
        if answers(spec) == before:
            silent.append(".".join(map(str, path)))
    assert silent == []
    assert len(paths) > 70


def test_the_full_spec_is_accepted() -> None:
    assert parse_training(custom_resource(FULL)).spec.workers.max == 3
