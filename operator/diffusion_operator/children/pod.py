"""The pod that every workload gets: `restricted` by Pod Security, without rights in the cluster, one container.

The agent in it knows who it is by the downward API, reaches the operator at DIFFUSION_AGENT_URL, trusts it by
`agent-ca.crt` from the ConfigMap, and proves itself by a projected service-account token with an audience of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffusion_contract.names import (
    AGENT_AUDIENCE,
    AGENT_TOKEN_FILE,
    CONFIG_DIRECTORY,
    ENV_AGENT_URL,
    ENV_NAMESPACE,
    ENV_NODE_NAME,
    ENV_POD_IP,
    ENV_POD_NAME,
    ENV_POD_UID,
    SCRATCH_DIRECTORY,
    TERMINATION_FILE,
)
from diffusion_operator.api.pod_template import PodTemplate
from diffusion_operator.api.resources import ResourcesSpec
from diffusion_operator.children.metadata import Manifest
from diffusion_operator.children.volumes import each_claim_once

RUN_AS = 65532
"""User and group of every container (the `nonroot` of distroless images)."""

TOKEN_SECONDS = 3600
"""Life of the agent token; the kubelet renews it before it ends."""

_DOWNWARD = {
    ENV_POD_NAME: "metadata.name",
    ENV_POD_UID: "metadata.uid",
    ENV_POD_IP: "status.podIP",
    ENV_NODE_NAME: "spec.nodeName",
    ENV_NAMESPACE: "metadata.namespace",
}


@dataclass(frozen=True)
class Mount:
    """A volume of ours: its `source` as in a pod's `volumes`, and where the container sees it.

    `name` begins with `diffusion-`, which no volume of a user's template does.
    """

    name: str
    source: Mapping[str, Any]
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class PodRecipe:
    """All that distinguishes one kind of workload pod from another.

    `labels` are complete (metadata.common_labels and more) and win over those of `template`; so does `node_affinity`,
    where it is not empty. `probes` has the keys of a container (`readinessProbe`, ...).
    """

    container: str
    image: str
    arguments: Sequence[str]
    labels: Mapping[str, str]
    config_map: str
    agent_url: str
    resources: ResourcesSpec = field(default_factory=ResourcesSpec)
    template: PodTemplate = field(default_factory=PodTemplate)
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    probes: Mapping[str, Any] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    node_affinity: Mapping[str, Any] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    restart_policy: str = "Always"
    grace_seconds: int = 30
    subdomain: str | None = None


def pod_template(recipe: PodRecipe) -> Manifest:
    """`{metadata, spec}` for a Job's or a Deployment's `template`."""
    template = recipe.template
    metadata: dict[str, Any] = {"labels": {**template.labels, **recipe.labels}}
    if template.annotations:
        metadata["annotations"] = dict(template.annotations)
    return {"metadata": metadata, "spec": _pod_spec(recipe)}


def _pod_spec(recipe: PodRecipe) -> dict[str, Any]:
    template = recipe.template
    volumes, mounts = each_claim_once(_volumes(recipe), _volume_mounts(recipe))
    spec: dict[str, Any] = {
        "restartPolicy": recipe.restart_policy,
        "terminationGracePeriodSeconds": recipe.grace_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RUN_AS,
            "runAsGroup": RUN_AS,
            "fsGroup": RUN_AS,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(recipe, mounts)],
        "volumes": volumes,
    }
    optional = {
        "subdomain": recipe.subdomain,
        "nodeSelector": {**template.node_selector, **recipe.node_selector},
        "tolerations": [*recipe.tolerations, *(toleration.to_wire() for toleration in template.tolerations)],
        "affinity": _affinity(recipe),
        "topologySpreadConstraints": _spread(recipe),
        "imagePullSecrets": [reference.to_wire() for reference in template.image_pull_secrets],
        "runtimeClassName": template.runtime_class_name,
        "schedulerName": template.scheduler_name,
    }
    return spec | {key: value for key, value in optional.items() if value}


def _affinity(recipe: PodRecipe) -> dict[str, Any]:
    theirs = recipe.template.affinity.to_wire() if recipe.template.affinity else {}
    return theirs | ({"nodeAffinity": dict(recipe.node_affinity)} if recipe.node_affinity else {})


def _container(recipe: PodRecipe, mounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": recipe.container,
        "image": recipe.image,
        "args": list(recipe.arguments),
        "env": _environment(recipe),
        "volumeMounts": mounts,
        "terminationMessagePath": TERMINATION_FILE,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **recipe.probes,
    }
    resources = {key: value for key, value in recipe.resources.to_wire().items() if value}
    if resources:
        container["resources"] = resources
    if recipe.ports:
        container["ports"] = [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in recipe.ports.items()
        ]
    return container


def _environment(recipe: PodRecipe) -> list[dict[str, Any]]:
    """Ours first; a variable of the template replaces one of ours with the same name (never a DIFFUSION_ one)."""
    fields = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in _DOWNWARD.items()]
    plain = {ENV_AGENT_URL: recipe.agent_url, "HOME": SCRATCH_DIRECTORY, **recipe.environment}
    theirs = [variable.to_wire() for variable in recipe.template.env]
    replaced = {variable["name"] for variable in theirs}
    ours = [{"name": name, "value": value} for name, value in plain.items() if name not in replaced]
    return [*fields, *ours, *theirs]


def _own_mounts(recipe: PodRecipe) -> tuple[Mount, ...]:
    token = {"serviceAccountToken": {"audience": AGENT_AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}}
    return (
        Mount("diffusion-config", {"configMap": {"name": recipe.config_map}}, CONFIG_DIRECTORY, read_only=True),
        Mount(
            "diffusion-agent-token",
            {"projected": {"sources": [token]}},
            AGENT_TOKEN_FILE.rpartition("/")[0],
            read_only=True,
        ),
        Mount("diffusion-scratch", {"emptyDir": {}}, SCRATCH_DIRECTORY),
    )


def _volume_mounts(recipe: PodRecipe) -> list[Mapping[str, Any]]:
    own = [*_own_mounts(recipe), *recipe.mounts]
    ours = [{"name": m.name, "mountPath": m.path} | ({"readOnly": True} if m.read_only else {}) for m in own]
    return [*ours, *(mount.to_wire() for mount in recipe.template.volume_mounts)]


def _volumes(recipe: PodRecipe) -> list[Mapping[str, Any]]:
    ours = [{"name": mount.name, **mount.source} for mount in (*_own_mounts(recipe), *recipe.mounts)]
    return [*ours, *(volume.to_wire() for volume in recipe.template.volumes)]


def _spread(recipe: PodRecipe) -> list[dict[str, Any]]:
    selector = {"matchLabels": dict(recipe.labels)}
    return [
        {"labelSelector": selector, **constraint.to_wire()}
        for constraint in recipe.template.topology_spread_constraints
    ]
