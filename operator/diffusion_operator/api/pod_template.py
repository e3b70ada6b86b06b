"""`template`, wherever it stands: a short typed list that is merged into the pods that we make.

There is no free PodSpec here on purpose. Whoever may write a custom resource could otherwise run pods with rights that
they do not have themselves: so no other service account, no host paths or host network, no privilege, no command, and
no reference to another namespace.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from diffusion_contract.frozen_model import FrozenModel, Misfit
from diffusion_contract.names import GROUP
from diffusion_contract.text_form import TextForm
from diffusion_contract.unique_items import once
from diffusion_operator.api.affinity import Affinity, TopologySpreadConstraint
from diffusion_operator.api.kubernetes_names import (
    KEY_OR_EMPTY,
    LabelValue,
    NodeLabels,
    ObjectName,
    keys_are_qualified,
)
from diffusion_operator.api.pod_volumes import TemplateVolume, VolumeMount

_RESERVED_PREFIXES = (f"{GROUP}/", "app.kubernetes.io/", "batch.kubernetes.io/")
_RESERVED_KEYS = ("job-name", "controller-uid", "pod-template-hash")


class Toleration(FrozenModel):
    """A taint that the pods put up with."""

    key: Annotated[str, Field(max_length=316), KEY_OR_EMPTY] | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None

    @model_validator(mode="after")
    def _fields_go_together(self) -> "Toleration":
        if not self.key and self.operator != "Exists":
            raise Misfit(
                "key",
                "without a key every taint is tolerated, and that goes with operator Exists: set key, or set operator "
                "to Exists",
            )
        if self.operator == "Exists" and self.value:
            raise Misfit("value", "value goes with operator Equal: remove value, or set operator to Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise Misfit(
                "tolerationSeconds",
                "tolerationSeconds goes with effect NoExecute: set effect to NoExecute, or remove tolerationSeconds",
            )
        return self


Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=16)]


class KeyReference(FrozenModel):
    """One key of a ConfigMap or Secret in the namespace of the custom resource."""

    name: ObjectName
    key: Annotated[
        str,
        Field(min_length=1, max_length=253),
        TextForm(
            r"^[-._a-zA-Z0-9]+$", "a key is made of letters, digits, -, _ and ., for example config.json: correct it"
        ),
    ]
    optional: bool | None = None


class EnvSource(FrozenModel):
    """Where the value of a variable comes from: exactly one of the two."""

    config_map_key_ref: KeyReference | None = None
    secret_key_ref: KeyReference | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "EnvSource":
        if (self.config_map_key_ref is None) == (self.secret_key_ref is None):
            raise ValueError("set exactly one of configMapKeyRef and secretKeyRef")
        return self


def _is_not_ours(name: str) -> str:
    if name.startswith("DIFFUSION_"):
        raise ValueError("variables that begin with DIFFUSION_ are set by the operator: use another name")
    return name


class EnvVariable(FrozenModel):
    """An environment variable. Names that begin with DIFFUSION_ are ours."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        TextForm(
            r"^[A-Za-z_][A-Za-z0-9_]*$",
            "a variable's name is made of letters, digits and _, and begins with no digit, for example LOG_LEVEL: "
            "correct it",
        ),
        AfterValidator(_is_not_ours),
    ]
    value: Annotated[str, Field(max_length=4096)] | None = None
    value_from: EnvSource | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "EnvVariable":
        if (self.value is None) == (self.value_from is None):
            raise ValueError("set exactly one of value and valueFrom")
        return self


class LocalReference(FrozenModel):
    """An object of the namespace of the custom resource, by name."""

    name: ObjectName


def _are_free(labels: dict[str, str]) -> dict[str, str]:
    if any(key.startswith(_RESERVED_PREFIXES) or key in _RESERVED_KEYS for key in labels):
        raise ValueError(
            f"keys under {', '.join(_RESERVED_PREFIXES)} and {', '.join(_RESERVED_KEYS)} are set by the operator or by "
            "Kubernetes: use another prefix"
        )
    return labels


_Free = (Field(max_length=32), AfterValidator(_are_free), AfterValidator(keys_are_qualified))


class PodTemplate(FrozenModel):
    """What a user may add to our pods. Labels under `diffusion.dev/` and `app.kubernetes.io/` are ours."""

    labels: Annotated[dict[str, LabelValue], *_Free] = Field(default_factory=dict)
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], *_Free] = Field(default_factory=dict)
    node_selector: NodeLabels = Field(default_factory=dict)
    tolerations: Tolerations = ()
    affinity: Affinity | None = None
    topology_spread_constraints: Annotated[
        tuple[TopologySpreadConstraint, ...],
        Field(max_length=4),
        AfterValidator(once("topology_key", "when_unsatisfiable")),
    ] = ()
    env: Annotated[tuple[EnvVariable, ...], Field(max_length=64), AfterValidator(once("name"))] = ()
    volumes: Annotated[tuple[TemplateVolume, ...], Field(max_length=16), AfterValidator(once("name"))] = ()
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32), AfterValidator(once("mount_path"))] = ()
    image_pull_secrets: Annotated[tuple[LocalReference, ...], Field(max_length=8), AfterValidator(once("name"))] = ()
    runtime_class_name: ObjectName | None = None
    scheduler_name: ObjectName | None = None

    @model_validator(mode="after")
    def _mounts_have_volumes(self) -> "PodTemplate":
        volumes = {volume.name for volume in self.volumes}
        if any(mount.name not in volumes for mount in self.volume_mounts):
            raise Misfit(
                "volumeMounts",
                "every mount must name a volume in template.volumes: add the volume, or correct the name",
            )
        return self
