"""What the API server itself accepts and refuses, asked of a real one: no webhook and no operator is involved."""

from collections.abc import Iterator
from typing import Any

import pytest

from custom_resource_tables import DIGEST, REMOVE, CustomResources, custom_resources, service, training
from diffusion_local.cluster import Cluster


@pytest.fixture(scope="module")
def resources(control_plane: Cluster) -> Iterator[CustomResources]:
    with custom_resources(control_plane) as client:
        yield client


VALUE_FROM = {"configMapKeyRef": {"name": "c", "key": "k"}}
POOLS = [{"name": "base", "replicas": 1}, {"name": "spot", "capacity": "Spot", "max": 3}]
MOUNTED = {
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
}
TEMPLATE: dict[str, Any] = {
    **MOUNTED,
    "labels": {"team": "vision"},
    "annotations": {"example.org/note": "hello"},
    "nodeSelector": {"gpu": "h200"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "labelSelector": {"matchLabels": {"team": "vision"}},
                        "topologyKey": "kubernetes.io/hostname",
                    },
                }
            ]
        }
    },
    "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone"}],
    "env": [
        {"name": "PLAIN", "value": "1"},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
    "imagePullSecrets": [{"name": "registry"}],
    "runtimeClassName": "nvidia",
    "schedulerName": "volcano",
}

GOOD = {
    "the smallest training": training(),
    "the smallest service": service(),
    "class conditioning": training(spec__model__conditioning={"type": "Class", "classes": 10, "dropout": 0.2}),
    "a network's own arguments": training(
        spec__model__denoiser={"type": "DiT", "config": {"layers": 4, "deep": {"er": [1, 2.5, "x", None, True]}}}
    ),
    "flow matching": training(spec__diffusion={"schedule": {"type": "FlowMatching", "shift": 3}, "prediction": "Flow"}),
    "other betas": training(spec__diffusion__schedule={"type": "Linear", "betaStart": 0.001, "betaEnd": 0.01}),
    "a cosine schedule": training(spec__diffusion__schedule={"type": "Cosine"}),
    "a data set in a volume": training(
        spec__dataset={"uri": "file:///data/train.npz", "digest": DIGEST}, spec__workers__template=MOUNTED
    ),
    "a whole template": training(spec__workers__template=TEMPLATE),
    "a whole template of a service": service(spec__template=TEMPLATE),
    "two pools": training(spec__workers__max=4, spec__pools=POOLS),
    "resources as numbers and as text": training(
        spec__workers__resources={"limits": {"nvidia.com/gpu": 1, "cpu": "1500m", "memory": "2.5Gi"}}
    ),
    "an existing claim": training(spec__checkpoint__storage={"existingClaim": "work"}),
    "an interval in steps": training(spec__checkpoint__interval={"steps": 100}),
    "a batch of exactly one sample for each process": training(
        spec__training__globalBatchSize=8, spec__workers__max=4, spec__workers__processesPerWorker=2
    ),
    "publishing": training(spec__publish={"claim": {"size": "1Gi"}, "name": "digits", "card": {"license": "MIT"}}),
    "a service from a training": service(spec__model={"fromTraining": {"name": "digits"}}),
    "no engine at all": service(spec__replicas__min=0),
    "several classes": service(spec__sampling__classes=[{"name": "a", "steps": 4}, {"name": "b", "steps": 50}]),
    "a name of 50 characters": training(metadata__name="a" * 50),
}


@pytest.mark.parametrize("raw", GOOD.values(), ids=GOOD)
def test_good_objects_are_accepted(resources: CustomResources, raw: dict[str, Any]) -> None:
    assert resources.refusal(raw) == ""


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown field": (training(spec__wurkers={}), 'unknown field \\"spec.wurkers\\"'),
    "an unknown field far inside": (
        training(spec__training__optimizer__momentum=0.9),
        'unknown field \\"spec.training.optimizer.momentum\\"',
    ),
    "a field of a later version": (service(spec__replicas={"min": 1, "max": 3}), 'unknown field \\"spec.replicas.max'),
    "a wrong type": (training(spec__training__targetSteps="many"), "spec.training.targetSteps"),
    "a fraction for a whole number": (training(spec__training__targetSteps=1.5), "spec.training.targetSteps"),
    "no data set": (training(spec__dataset=REMOVE), "spec.dataset: Required value"),
    "no target": (training(spec__training={}), "spec.training.targetSteps: Required value"),
    "no storage": (training(spec__checkpoint={}), "spec.checkpoint.storage: Required value"),
    "no model": (service(spec__model=REMOVE), "spec.model: Required value"),
    "no keys": (service(spec__auth=REMOVE), "spec.auth: Required value"),
    "no keys in auth": (service(spec__auth={}), "spec.auth.keysRef: Required value"),
    "no spec": (training(spec=REMOVE), "spec: Required value"),
    "no steps to do": (training(spec__training__targetSteps=0), "greater than or equal to 1"),
    "an unknown network": (training(spec__model__denoiser__type="UNet"), "supported values"),
    "an unknown schedule": (training(spec__diffusion__schedule__type="Sigmoid"), "supported values"),
    "a sampler of a later version": (service(spec__sampling__sampler="Heun"), "supported values"),
    "a sample that is too small": (training(spec__model__denoiser__sampleSize=2), "greater than or equal to 4"),
    "classes without Class": (training(spec__model__conditioning__classes=10), "classes goes with type Class"),
    "Class without classes": (training(spec__model__conditioning__type="Class"), "classes goes with type Class"),
    "dropout without Class": (training(spec__model__conditioning__dropout=0.3), "dropout goes with type Class"),
    "all labels dropped": (
        training(spec__model__conditioning={"type": "Class", "classes": 10, "dropout": 1}),
        "spec.model.conditioning.dropout",
    ),
    "Flow with a diffusion schedule": (training(spec__diffusion__prediction="Flow"), "goes with schedule.type"),
    "Epsilon with flow matching": (training(spec__diffusion__schedule__type="FlowMatching"), "goes with schedule.type"),
    "betas the wrong way round": (
        training(spec__diffusion__schedule={"betaStart": 0.03}),
        "betaStart must be below betaEnd",
    ),
    "betas with Cosine": (
        training(spec__diffusion__schedule={"type": "Cosine", "betaEnd": 0.03}),
        "betaStart and betaEnd go with type Linear",
    ),
    "shift without flow matching": (training(spec__diffusion__schedule__shift=2), "shift goes with type FlowMatching"),
    "a data set from nowhere": (training(spec__dataset__uri="digits"), "spec.dataset.uri"),
    "a data set by name of a site": (training(spec__dataset__uri="s3://bucket/data"), "spec.dataset.uri"),
    "a file without a digest": (training(spec__dataset__uri="file:///data/a.npz"), "needs its digest"),
    "a digest that is none": (training(spec__dataset__digest="sha256:12"), "spec.dataset.digest"),
    "a learning rate of zero": (training(spec__training__optimizer__learningRate=0), "learningRate"),
    "a decay of one": (training(spec__training__ema__decay=1), "decay"),
    "warm-up beyond the end": (
        training(spec__training__learningRateSchedule__warmupSteps=100),
        "warmupSteps must be below targetSteps",
    ),
    "min above max": (training(spec__workers={"min": 3, "max": 2}), "min must not be above max"),
    "pools that do not add up": (training(spec__workers__max=3, spec__pools=POOLS), "must add up to workers.max"),
    "a pool with both sizes": (
        training(spec__workers__max=2, spec__pools=[{"name": "a", "replicas": 1, "max": 1}]),
        "set exactly one of replicas and max",
    ),
    "a pool without a size": (training(spec__pools=[{"name": "a"}]), "set exactly one of replicas and max"),
    "two pools of one name": (
        training(spec__workers__max=2, spec__pools=[{"name": "a", "replicas": 1}, {"name": "a", "max": 1}]),
        "Duplicate value",
    ),
    "a pool with a long name": (training(spec__pools=[{"name": "a" * 13, "replicas": 1}]), "may not be more than 12"),
    "no pool in the list": (training(spec__pools=[]), "spec.pools"),
    "fewer samples than processes": (
        training(spec__training__globalBatchSize=3, spec__workers__max=4),
        "globalBatchSize must be at least",
    ),
    "both kinds of interval": (
        training(spec__checkpoint__interval={"steps": 1, "seconds": 1}),
        "set exactly one of steps and seconds",
    ),
    "neither kind of interval": (training(spec__checkpoint__interval={}), "set exactly one of steps and seconds"),
    "both kinds of storage": (
        training(spec__checkpoint__storage={"claim": {"size": "1Gi"}, "existingClaim": "work"}),
        "set exactly one of claim and existingClaim",
    ),
    "no kind of storage": (training(spec__checkpoint__storage={}), "set exactly one of claim and existingClaim"),
    "a size that is none": (training(spec__checkpoint__storage={"claim": {"size": "big"}}), "storage.claim.size"),
    "one checkpoint kept": (training(spec__checkpoint__retain__last=1), "greater than or equal to 2"),
    "publishing to nowhere": (training(spec__publish={"name": "a"}), "set exactly one of claim and existingClaim"),
    "a tag": (service(spec__model={"ref": "pvc://models/digits:latest"}), "ref must carry a digest"),
    "a registry": (service(spec__model={"ref": f"oci://r/digits@{DIGEST}"}), "ref must be pvc://CLAIM/NAME@sha256"),
    "half a digest": (service(spec__model={"ref": "pvc://m/d@sha256:00"}), "64 lower-case hexadecimal digits"),
    "two models": (
        service(spec__model={"ref": f"pvc://m/d@{DIGEST}", "fromTraining": {"name": "a"}}),
        "set exactly one of ref and fromTraining",
    ),
    "an empty model": (service(spec__model={}), "set exactly one of ref and fromTraining"),
    "a class twice": (
        service(spec__sampling__classes=[{"name": "a", "steps": 1}, {"name": "a", "steps": 2}]),
        "Duplicate value",
    ),
    "no class": (service(spec__sampling__classes=[]), "spec.sampling.classes"),
    "a class without steps": (service(spec__sampling__classes=[{"name": "a"}]), "steps: Required value"),
    "too many steps": (service(spec__sampling__classes=[{"name": "a", "steps": 1001}]), "less than or equal to 1000"),
    "too much guidance": (service(spec__sampling__guidanceScale=51), "less than or equal to 50"),
    "an empty batch": (service(spec__batching__maxBatch=0), "greater than or equal to 1"),
    "fewer than no engine": (service(spec__replicas__min=-1), "greater than or equal to 0"),
    "a name with a dot": (training(metadata__name="a.b"), "choose a name without dots"),
    "a name that begins with a digit": (service(metadata__name="1a"), "must begin with a letter"),
    "a name of 51 characters": (service(metadata__name="a" * 51), "at most 50 characters"),
    "an operator's variable": (
        training(spec__workers__template={"env": [{"name": "DIFFUSION_POD_UID", "value": "x"}]}),
        "set by the operator",
    ),
    "a variable from two places": (
        service(spec__template={"env": [{"name": "A", "value": "", "valueFrom": VALUE_FROM}]}),
        "set exactly one of value and valueFrom",
    ),
    "a volume of the host": (
        training(spec__workers__template={"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}),
        "unknown field",
    ),
    "a volume without a source": (
        training(spec__workers__template={"volumes": [{"name": "a"}]}),
        "set exactly one of persistentVolumeClaim, configMap, secret and emptyDir",
    ),
    "a volume of the operator's": (
        training(spec__workers__template={"volumes": [{"name": "diffusion-config", "emptyDir": {}}]}),
        "use another name",
    ),
    "a mount without a volume": (
        training(spec__workers__template={"volumeMounts": [{"name": "a", "mountPath": "/data"}]}),
        "every mount must name a volume",
    ),
    "a mount over the operator's": (
        service(
            spec__template={
                "volumes": [{"name": "a", "emptyDir": {}}],
                "volumeMounts": [{"name": "a", "mountPath": "/etc/diffusion/keys"}],
            }
        ),
        "mount the volume elsewhere",
    ),
    "a way out of a volume": (
        service(
            spec__template={
                "volumes": [{"name": "a", "emptyDir": {}}],
                "volumeMounts": [{"name": "a", "mountPath": "/data", "subPath": "../up"}],
            }
        ),
        "must not contain ..",
    ),
    "a label of the operator's": (
        service(spec__template={"labels": {"diffusion.dev/revision": "x"}}),
        "use another prefix",
    ),
    "another service account": (service(spec__template={"serviceAccountName": "admin"}), "unknown field"),
    "pods of another namespace": (
        service(
            spec__template={
                "affinity": {
                    "podAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [
                            {"topologyKey": "zone", "namespaces": ["kube-system"]}
                        ]
                    }
                }
            }
        ),
        "unknown field",
    ),
}


@pytest.mark.parametrize(("raw", "words"), BAD.values(), ids=BAD)
def test_bad_objects_are_refused_in_words(resources: CustomResources, raw: dict[str, Any], words: str) -> None:
    assert words in resources.refusal(raw)
