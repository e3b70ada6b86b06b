"""Custom resources that both refuse, the API server and the operator, and words of the API server's about each."""

from typing import Any

from custom_resource_tables import DIGEST, REMOVE, service, training
from refused_amounts import AMOUNTS
from refused_forms import FORMS

POOLS = [{"name": "base", "replicas": 1}, {"name": "spot", "capacity": "Spot", "max": 3}]
VALUE_FROM = {"configMapKeyRef": {"name": "c", "key": "k"}}
KEY = "a key is a name of at most 63 letters"
VALUES = "In and NotIn need values"
PLAIN, ELSEWHERE = "mountPath must not contain //", "mount the volume elsewhere"
MOUNTS = {
    "//tmp": PLAIN,
    "/data/../etc/diffusion/config": PLAIN,
    "/./data": PLAIN,
    "/data/": PLAIN,
    "/": PLAIN,
    "/etc": ELSEWHERE,
    "/var": ELSEWHERE,
    "/run": ELSEWHERE,
    "/tmp/mine": ELSEWHERE,
    "/dev": ELSEWHERE,
    "/dev/shm/mine": ELSEWHERE,
}


def _mounted(*paths: str) -> dict[str, Any]:
    mounts = [{"name": "a", "mountPath": path} for path in paths]
    return service(spec__template={"volumes": [{"name": "a", "emptyDir": {}}], "volumeMounts": mounts})


def _near(selector: dict[str, Any]) -> dict[str, Any]:
    term = {"topologyKey": "zone", "labelSelector": selector}
    return service(
        spec__template={"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
    )


def _on(term: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return training(spec__workers__template={"affinity": {"nodeAffinity": required}})


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
    "a # in a path": (training(spec__dataset={"uri": "file:///set#2", "digest": DIGEST}), "spec.dataset.uri"),
    "a file without a digest": (training(spec__dataset__uri="file:///data/a.npz"), "needs its digest"),
    "a file whose name moves the cursor": (
        training(spec__dataset={"uri": "file:///data/\x1b[2J", "digest": DIGEST}),
        "spec.dataset.uri",
    ),
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
        "each class needs a name of its own",
    ),
    "no class": (service(spec__sampling__classes=[]), "spec.sampling.classes"),
    "a class without steps": (service(spec__sampling__classes=[{"name": "a"}]), "steps: Required value"),
    "too many steps": (service(spec__sampling__classes=[{"name": "a", "steps": 1001}]), "less than or equal to 1000"),
    "too much guidance": (service(spec__sampling__guidanceScale=51), "less than or equal to 50"),
    "an empty batch": (service(spec__batching__maxBatch=0), "greater than or equal to 1"),
    "fewer than no engine": (service(spec__replicas__min=-1), "greater than or equal to 0"),
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
    **AMOUNTS,
    **FORMS,
    "a toleration of no key": (
        training(spec__workers__template={"tolerations": [{"operator": "Equal", "value": "x"}]}),
        "set key, or set operator to Exists",
    ),
    "a toleration of a key that is none": (
        training(spec__pools=[{"name": "a", "replicas": 1, "tolerations": [{"key": "not a key/"}]}]),
        "tolerations[0].key",
    ),
    "a label with a key that is none": (service(spec__template={"labels": {"not a key/": "x"}}), KEY),
    "an annotation with a key that is none": (service(spec__template={"annotations": {"a/b/c": "x"}}), KEY),
    "a node label with a key that is none": (training(spec__workers__template={"nodeSelector": {"-": "x"}}), KEY),
    "a pool's node label with a key that is none": (
        training(spec__pools=[{"name": "a", "replicas": 1, "nodeSelector": {"": "x"}}]),
        KEY,
    ),
    "a label of the Job controller's": (
        training(spec__workers__template={"labels": {"job-name": "mine"}}),
        "use another prefix",
    ),
    "another label of the Job controller's": (
        training(spec__workers__template={"labels": {"batch.kubernetes.io/controller-uid": "mine"}}),
        "use another prefix",
    ),
    "In without values": (_near({"matchExpressions": [{"key": "a", "operator": "In"}]}), VALUES),
    "Exists with a value": (_near({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}), VALUES),
    "Gt with two values": (_on({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1", "2"]}]}), VALUES),
    "a field of nodes that there is not": (
        _on({"matchFields": [{"key": "spec.unschedulable", "operator": "In", "values": ["a"]}]}),
        "supported values",
    ),
    "a place that is none": (
        training(spec__workers__template={"topologySpreadConstraints": [{"topologyKey": "not a key/"}]}),
        "topologySpreadConstraints[0].topologyKey",
    ),
    "a volume of nothing": (training(spec__checkpoint__storage={"claim": {"size": "0Gi"}}), "size must be above 0"),
    "a volume for one pod and for others": (
        training(spec__publish={"claim": {"size": "1Gi", "accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}}),
        "ReadWriteOncePod goes with no other mode",
    ),
    "a volume for one of two workers": (
        training(
            spec__checkpoint__storage={"claim": {"size": "1Gi", "accessModes": ["ReadWriteOncePod"]}},
            spec__workers__max=2,
        ),
        "ReadWriteOncePod gives the volume to one pod",
    ),
    "digits of another size": (training(spec__model__denoiser__sampleSize=16), "set sampleSize to 8"),
    "digits in colour": (training(spec__model__denoiser__channels=3), "set channels to 1"),
    "too few classes of digits": (
        training(spec__model__conditioning={"type": "Class", "classes": 5}),
        "set classes to 10 or more",
    ),
    "steps without end": (training(spec__training__targetSteps=2**62), "less than or equal to 1000000000"),
    "a batch without end": (training(spec__training__globalBatchSize=2**62), "less than or equal to 1000000"),
    "an interval without end": (
        training(spec__checkpoint__interval={"steps": 2**62}),
        "less than or equal to 1000000000",
    ),
    "a pause without end": (
        training(spec__checkpoint__interval={"seconds": 2**62}),
        "less than or equal to 31536000",
    ),
    **{f"a mount at {path}": (_mounted(path), words) for path, words in MOUNTS.items()},
    "two mounts at one path": (_mounted("/data", "/data"), "Duplicate value"),
    "a volume twice": (
        training(spec__workers__template={"volumes": [{"name": "a", "emptyDir": {}}] * 2}),
        "Duplicate value",
    ),
    "a pull secret twice": (service(spec__template={"imagePullSecrets": [{"name": "a"}] * 2}), "Duplicate value"),
    "a spread twice": (
        service(spec__template={"topologySpreadConstraints": [{"topologyKey": "zone"}] * 2}),
        "may stand once with each whenUnsatisfiable",
    ),
    "a variable twice": (
        service(spec__template={"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        "Duplicate value",
    ),
}
