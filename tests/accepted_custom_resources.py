"""Custom resources that the API server accepts, and that the operator can use."""

from typing import Any

from custom_resource_tables import DIGEST, service, training

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
    "topologySpreadConstraints": [
        {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 2},
        {"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"},
    ],
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
    "existing claims with dots": training(
        spec__checkpoint__storage={"existingClaim": "data.work"}, spec__publish={"existingClaim": "team.models"}
    ),
    "more shared memory": training(
        spec__workers__template={
            "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
            "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
        }
    ),
    "an interval in steps": training(spec__checkpoint__interval={"steps": 100}),
    "a batch of exactly one sample for each process": training(
        spec__training__globalBatchSize=8, spec__workers__max=4, spec__workers__processesPerWorker=2
    ),
    "publishing": training(spec__publish={"claim": {"size": "1Gi"}, "name": "digits", "card": {"license": "MIT"}}),
    "a service from a training": service(spec__model={"fromTraining": {"name": "digits"}}),
    "no engine at all": service(spec__replicas__min=0),
    "several classes": service(spec__sampling__classes=[{"name": "a", "steps": 4}, {"name": "b", "steps": 50}]),
    "more labels than the digits need": training(spec__model__conditioning={"type": "Class", "classes": 12}),
    "devices in both": training(
        spec__workers__resources={"requests": {"nvidia.com/gpu": 2, "cpu": 1}, "limits": {"nvidia.com/gpu": "2"}},
        spec__workers__processesPerWorker=2,
    ),
    "a toleration of everything": training(spec__workers__template={"tolerations": [{"operator": "Exists"}]}),
    "another kind of sample": training(
        spec__dataset={"uri": "file:///data/a.npz", "digest": DIGEST},
        spec__model__denoiser={"sampleSize": 32, "channels": 3},
    ),
    "a volume for one pod": training(
        spec__checkpoint__storage={"claim": {"size": "1Gi", "accessModes": ["ReadWriteOncePod"]}}
    ),
    "a name of 50 characters": training(metadata__name="a" * 50),
}
