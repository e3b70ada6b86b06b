"""`template`, wherever it stands: a short typed list that is merged into the pods that we make.

There is no free PodSpec here on purpose. Whoever may write a custom resource could otherwise run pods with rights that
they do not have themselves: so no other service account, no host paths or host network, no privilege, no command, and
no reference to another namespace.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.names import CONFIG_DIRECTORY, GROUP, SCRATCH_DIRECTORY

RESERVED_VOLUMES = "diffusion-"
"""Prefix of the names of the volumes that we mount ourselves."""

RESERVED_MOUNTS = (CONFIG_DIRECTORY, "/etc/diffusion", "/var/lib/diffusion", "/var/run/secrets", SCRATCH_DIRECTORY)
"""Where we mount them; a user's mount stays outside of these."""

_RESERVED_LABELS = (f"{GROUP}/", "app.kubernetes.io/")
_QUANTITY = r"^(\d+|\d+\.\d*|\.\d+)([eE][+-]?\d+|[KMGTPE]i|[munkMGTPE])?$"


def _integer_as_text(value: object) -> object:
    """Kubernetes writes a quantity as an integer or a string: `cpu: 2` and `cpu: "2"` are the same."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[str, Field(pattern=_QUANTITY), BeforeValidator(_integer_as_text)]
"""A Kubernetes quantity such as `500m`, `2` or `20Gi`."""


class ResourcesSpec(FrozenModel):
    """What a container asks of its node, and may use at most (`cpu`, `memory`, `nvidia.com/gpu`, ...)."""

    requests: dict[str, Quantity] = Field(default_factory=dict)
    limits: dict[str, Quantity] = Field(default_factory=dict)


class Toleration(FrozenModel):
    """A taint that the pods put up with."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class KeyReference(FrozenModel):
    """One key of a ConfigMap or Secret in the namespace of the custom resource."""

    name: str
    key: str
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


class EnvVariable(FrozenModel):
    """An environment variable. Names that begin with DIFFUSION_ are ours."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: str | None = None
    value_from: EnvSource | None = None

    @model_validator(mode="after")
    def _not_ours_and_one_source(self) -> "EnvVariable":
        if self.name.startswith("DIFFUSION_"):
            raise ValueError(f"{self.name} is set by the operator; choose a name without the prefix DIFFUSION_")
        if self.value is not None and self.value_from is not None:
            raise ValueError(f"{self.name} has both value and valueFrom; set one of them")
        return self


class ClaimVolume(FrozenModel):
    """A PersistentVolumeClaim of the namespace of the custom resource."""

    claim_name: str
    read_only: bool | None = None


class KeyToPath(FrozenModel):
    """One key of a ConfigMap or Secret and the file that it becomes."""

    key: str
    path: str


class ConfigMapVolume(FrozenModel):
    """A ConfigMap of the namespace of the custom resource, as files."""

    name: str
    items: tuple[KeyToPath, ...] | None = None
    optional: bool | None = None


class SecretVolume(FrozenModel):
    """A Secret of the namespace of the custom resource, as files."""

    secret_name: str
    items: tuple[KeyToPath, ...] | None = None
    optional: bool | None = None


class EmptyDirVolume(FrozenModel):
    """Scratch space that lives as long as the pod."""

    medium: Literal["", "Memory"] | None = None
    size_limit: Quantity | None = None


class TemplateVolume(FrozenModel):
    """A volume: exactly one of the four sources, all of them in the namespace of the custom resource."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    persistent_volume_claim: ClaimVolume | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDirVolume | None = None

    @model_validator(mode="after")
    def _one_source_and_not_ours(self) -> "TemplateVolume":
        sources = (self.persistent_volume_claim, self.config_map, self.secret, self.empty_dir)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("set exactly one of persistentVolumeClaim, configMap, secret and emptyDir")
        if self.name.startswith(RESERVED_VOLUMES):
            raise ValueError(f"{self.name}: volume names with the prefix {RESERVED_VOLUMES} are the operator's")
        return self


class VolumeMount(FrozenModel):
    """Where a volume of `volumes` appears in the container."""

    name: str
    mount_path: Annotated[str, Field(pattern=r"^/[^:]+$")]
    sub_path: str | None = None
    read_only: bool | None = None

    @model_validator(mode="after")
    def _not_over_ours(self) -> "VolumeMount":
        path = self.mount_path.rstrip("/")
        if any(path == taken or path.startswith(f"{taken}/") for taken in RESERVED_MOUNTS):
            raise ValueError(f"{self.mount_path} is used by the operator; mount it elsewhere")
        return self


class LocalReference(FrozenModel):
    """An object of the namespace of the custom resource, by name."""

    name: str


class Affinity(FrozenModel):
    """As in a pod, each part as Kubernetes knows it; pod terms see the namespace of the custom resource only."""

    node_affinity: dict[str, JsonValue] | None = None
    pod_affinity: dict[str, JsonValue] | None = None
    pod_anti_affinity: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _no_other_namespace(self) -> "Affinity":
        if any(
            _mentions(part, {"namespaces", "namespaceSelector"}) for part in (self.pod_affinity, self.pod_anti_affinity)
        ):
            raise ValueError("pod terms may not name namespaces: they see the namespace of this resource only")
        return self


def _mentions(value: JsonValue, keys: set[str]) -> bool:
    """Whether one of `keys` is a key anywhere inside `value`."""
    if isinstance(value, dict):
        return bool(keys & value.keys()) or any(_mentions(inner, keys) for inner in value.values())
    return isinstance(value, list) and any(_mentions(inner, keys) for inner in value)


class TopologySpreadConstraint(FrozenModel):
    """How evenly the pods spread over a topology; without `labelSelector` over all pods of the same role."""

    max_skew: Annotated[int, Field(ge=1)] = 1
    topology_key: str
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = "DoNotSchedule"
    label_selector: dict[str, JsonValue] | None = None


class PodTemplate(FrozenModel):
    """What a user may add to our pods. Labels under `diffusion.dev/` and `app.kubernetes.io/` are ours."""

    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    env: tuple[EnvVariable, ...] = ()
    volumes: tuple[TemplateVolume, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    image_pull_secrets: tuple[LocalReference, ...] = ()
    runtime_class_name: str | None = None
    scheduler_name: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "PodTemplate":
        for label in (*self.labels, *self.annotations):
            if label.startswith(_RESERVED_LABELS):
                raise ValueError(f"{label} belongs to the operator; choose a key of your own")
        volumes = {volume.name for volume in self.volumes}
        for mount in self.volume_mounts:
            if mount.name not in volumes:
                raise ValueError(f"volumeMounts names the volume {mount.name}, which volumes does not have")
        return self
