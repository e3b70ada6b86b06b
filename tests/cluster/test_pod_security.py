"""The pods of both kinds pass the `restricted` level on a real API server, whatever a template adds to them."""

from collections.abc import Iterator
from typing import Any

import pytest

from accepted_custom_resources import TEMPLATE
from cluster_fixtures import Kubernetes, apply, fresh_namespace
from custom_resource_tables import parse, service, training
from diffusion_local.cluster import Cluster
from diffusion_operator.api.affinity import Affinity
from diffusion_operator.api.pod_template import PodTemplate
from diffusion_operator.api.service_revision import RevisionSpec
from diffusion_operator.api.training_spec import parse_training
from diffusion_operator.children.engine_deployment import engine_deployment
from diffusion_operator.children.image_trial import image_trial
from diffusion_operator.children.job import training_job
from diffusion_operator.children.metadata import Owner
from operator_harness import FACTS

REQUIRED, PREFERRED = (f"{how}DuringSchedulingIgnoredDuringExecution" for how in ("required", "preferred"))
HERE = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "kubernetes.io/hostname"}
EVERYTHING: dict[str, Any] = {
    **TEMPLATE,
    "volumes": [
        *TEMPLATE["volumes"],
        {"name": "settings", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}], "optional": True}},
        {"name": "wallet", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p"}], "optional": True}},
        {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ],
    "volumeMounts": [
        *TEMPLATE["volumeMounts"],
        {"name": "settings", "mountPath": "/settings", "subPath": "p"},
        {"name": "wallet", "mountPath": "/wallet"},
        {"name": "fast", "mountPath": "/fast"},
    ],
    "tolerations": [{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
    "affinity": {
        "nodeAffinity": {
            REQUIRED: {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
                        "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n"]}],
                    }
                ]
            },
            PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}],
        },
        "podAffinity": {REQUIRED: [HERE], PREFERRED: [{"weight": 1, "podAffinityTerm": HERE}]},
        "podAntiAffinity": {REQUIRED: [HERE], PREFERRED: [{"weight": 1, "podAffinityTerm": HERE}]},
    },
}
RESOURCES = {"requests": {"cpu": "1", "nvidia.com/gpu": 1}, "limits": {"cpu": "2", "nvidia.com/gpu": 1}}


def worker() -> Any:
    parsed = parse_training({**training(spec__workers={"template": EVERYTHING, "resources": RESOURCES})})
    return training_job(parsed, parsed.spec.effective_pools[0], 1, "i", FACTS.agent_url)["spec"]["template"]


def trial() -> Any:
    parsed = parse_training({**training(spec__workers={"template": EVERYTHING, "resources": RESOURCES})})
    return image_trial(parsed, parsed.spec.effective_pools[0], "i")["spec"]["template"]


def engine() -> Any:
    spec = parse(service(spec__template=EVERYTHING, spec__resources=RESOURCES))
    revision = RevisionSpec(model=spec.model.ref, image="i", template=spec.template, resources=spec.resources)
    owner = Owner("DiffusionService", "digits", "team", "uid")
    return engine_deployment(owner, revision, 1, "keys", FACTS.agent_url)["spec"]["template"]


@pytest.fixture(scope="module")
def restricted(control_plane: Cluster) -> Iterator[tuple[Kubernetes, str]]:
    with fresh_namespace(control_plane) as namespace:
        level = "pod-security.kubernetes.io/enforce=restricted"
        assert control_plane.kubectl("label", "namespace", namespace, level).returncode == 0
        apply(
            control_plane,
            {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "x"},
        )
        yield control_plane, namespace


@pytest.mark.parametrize("template", [worker(), trial(), engine()], ids=["worker", "trial", "engine"])
def test_a_pod_with_a_whole_template_is_admitted(restricted: tuple[Kubernetes, str], template: Any) -> None:
    cluster, namespace = restricted
    metadata = {**template["metadata"], "name": "whole", "namespace": namespace}
    apply(cluster, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    assert cluster.kubectl("delete", "pod", "whole", "-n", namespace, "--now").returncode == 0


def test_the_level_is_in_force(restricted: tuple[Kubernetes, str]) -> None:
    cluster, namespace = restricted
    bare = ("run", "bare", "--image=i", "-n", namespace, "--dry-run=server")
    assert "violates PodSecurity" in cluster.kubectl(*bare).stderr


def test_everything_means_every_field() -> None:
    assert {*PodTemplate.model_validate(EVERYTHING).without_defaults()} == {
        field.alias or name for name, field in PodTemplate.model_fields.items()
    }
    assert len(EVERYTHING["affinity"]) == len(Affinity.model_fields)
