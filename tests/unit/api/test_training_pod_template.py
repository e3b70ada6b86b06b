"""`template`: what users may add to our pods, and what would give them rights that they do not have."""

from typing import Any

import pytest
from pydantic import ValidationError

from diffusion_operator.api.pod_template import PodTemplate

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
NEAR = {"topologyKey": "zone"}
VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "faces"}}


def test_everything_that_may_be_added_is_read() -> None:
    wire: dict[str, Any] = {
        "labels": {"team": "vision"},
        "annotations": {"note": "x"},
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}
            },
            "podAntiAffinity": {REQUIRED: [{**NEAR, "labelSelector": {"matchLabels": {"a": "b"}}}]},
        },
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
        ],
        "volumes": [VOLUME, {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        "imagePullSecrets": [{"name": "registry"}],
        "runtimeClassName": "nvidia",
        "schedulerName": "volcano",
    }
    assert PodTemplate.model_validate(wire).to_wire() == wire


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        ({"serviceAccountName": "admin"}, "Extra inputs"),
        ({"hostNetwork": True}, "Extra inputs"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "Extra inputs"),
        ({"volumes": [{"name": "v"}]}, "exactly one of"),
        ({"volumes": [VOLUME | {"emptyDir": {}}]}, "exactly one of"),
        ({"volumes": [{"name": "diffusion-config", "emptyDir": {}}]}, "made by the operator"),
        ({"volumeMounts": [{"name": "absent", "mountPath": "/x"}]}, "every mount must name a volume"),
        ({"volumes": [VOLUME], "volumeMounts": [{"name": "data", "mountPath": "/tmp"}]}, "mount the volume elsewhere"),
        (
            {"volumes": [VOLUME], "volumeMounts": [{"name": "data", "mountPath": "/var/run/secrets/x"}]},
            "mount the volume elsewhere",
        ),
        ({"env": [{"name": "DIFFUSION_POD_UID", "value": "x"}]}, "set by the operator"),
        (
            {"env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            "exactly one of value and valueFrom",
        ),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "exactly one of configMapKeyRef and secretKeyRef"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]}, "Extra inputs"),
        ({"labels": {"diffusion.dev/training": "other"}}, "use another prefix"),
        ({"labels": {"app.kubernetes.io/managed-by": "me"}}, "use another prefix"),
        ({"affinity": {"podAffinity": {REQUIRED: [NEAR | {"namespaces": ["kube-system"]}]}}}, "Extra inputs"),
        ({"affinity": {"podAntiAffinity": {REQUIRED: [NEAR | {"namespaceSelector": {}}]}}}, "Extra inputs"),
    ],
)
def test_what_would_reach_further_is_refused(wire: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        PodTemplate.model_validate(wire)
