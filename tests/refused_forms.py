"""Texts of another form than their field's, and the words that say which form it is: no regular expression alone."""

from typing import Any

from custom_resource_tables import service, training

NAME = "a name is made of lower-case letters, digits, - and ., with a letter or digit at both ends, for example"
LABEL = "a name is made of lower-case letters, digits and -, with a letter or digit at both ends, for example"
KEY = "a key is a name of at most 63 letters, digits, -, _ and ., with an optional prefix such as example.org/"
VALUE = "a value is made of letters, digits, -, _ and ., with a letter or digit at both ends, for example"
QUANTITY = "a quantity is a number, 0 or more, and a unit of Kubernetes or none, for example 500m, 2 or 20Gi"
URI = "uri must be builtin://digits, or the absolute path of a folder or an .npz, for example file:///"


def _template(**fields: Any) -> dict[str, Any]:
    return training(spec__workers__template=fields)


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "a dataset of another scheme": (training(spec__dataset__uri="https://example.org/a.npz"), URI),
    "a dataset by a relative path": (training(spec__dataset__uri="file://data/a.npz"), URI),
    "half a digest of a dataset": (training(spec__dataset__digest="sha256:12"), "then 64 hexadecimal digits"),
    "an image with a blank": (service(spec__image="engine: 1"), "an image is a name without blanks, for example"),
    "an amount in words": (training(spec__workers__resources={"limits": {"cpu": "two"}}), QUANTITY),
    "a unit of others": (training(spec__checkpoint__storage={"claim": {"size": "10GB"}}), QUANTITY),
    "devices in words": (
        training(spec__workers__resources={"limits": {"nvidia.com/gpu": "one"}, "requests": {"nvidia.com/gpu": "one"}}),
        QUANTITY,
    ),
    "a folder of no size": (_template(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "big"}}]), QUANTITY),
    "a class of volumes": (
        training(spec__checkpoint__storage={"claim": {"size": "1Gi", "storageClassName": "Fast"}}),
        NAME,
    ),
    "a claim by a path": (training(spec__checkpoint__storage={"existingClaim": "team/work"}), NAME),
    "a training by no name": (service(spec__model={"fromTraining": {"name": "My_Run"}}), NAME),
    "a Secret by no name": (service(spec__auth__keysRef__name="Keys"), NAME),
    "a pool by no name": (training(spec__pools=[{"name": "Spot_1", "replicas": 1}]), LABEL),
    "a volume by no name": (_template(volumes=[{"name": "My_data", "emptyDir": {}}]), LABEL),
    "a version by no name": (training(spec__publish={"name": "V 1", "existingClaim": "a"}), "for example digits-v1"),
    "a class by no name": (
        service(spec__sampling__classes=[{"name": "Final", "steps": 1}]),
        "begins with a letter, for example preview",
    ),
    "a variable that begins with a digit": (_template(env=[{"name": "1A", "value": "x"}]), "begins with no digit"),
    "a key of a ConfigMap with a blank": (
        _template(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a b"}}}]),
        "for example config.json",
    ),
    "a value of a label": (_template(labels={"team": "vision & speech"}), VALUE),
    "a key of a toleration": (_template(tolerations=[{"key": "a b", "operator": "Exists"}]), KEY),
    "a relative mount": (
        _template(volumes=[{"name": "a", "emptyDir": {}}], volumeMounts=[{"name": "a", "mountPath": "data"}]),
        "mountPath must be an absolute path without a colon, for example /data/train",
    ),
}
