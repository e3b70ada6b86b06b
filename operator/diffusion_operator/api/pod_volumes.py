"""Volumes of a template and where they appear: objects of the custom resource's namespace, outside of our own paths."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.names import SCRATCH_DIRECTORY
from diffusion_contract.text_form import TextForm
from diffusion_operator.api.kubernetes_names import ObjectName, dns_label
from diffusion_operator.api.resources import Quantity

RESERVED_VOLUMES = "diffusion-"
"""Prefix of the names of the volumes that we mount ourselves."""

RESERVED_MOUNTS = (
    "/etc/diffusion",
    "/var/lib/diffusion",
    "/var/run/secrets",
    "/run/secrets",
    SCRATCH_DIRECTORY,
    "/dev",
    "/proc",
    "/sys",
)
"""Where we mount them, and what is the system's; a user's mount stays outside of these, and holds none of them."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a place in the pod
"""May be mounted all the same: containers get 64 MiB there, and NCCL between the GPUs of a pod needs more."""


def _stays_inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("the path must be relative and must not contain ..")
    return path


def _is_plain_and_free(path: str) -> str:
    if "//" in path or path.endswith("/") or {".", ".."} & set(path.split("/")):
        raise ValueError(
            "mountPath must not contain //, . or .. and must not end with /: write it plainly, for example /data/train"
        )
    taken_by = () if path == SHARED_MEMORY else RESERVED_MOUNTS
    if any(f"{path}/".startswith(f"{taken}/") or taken.startswith(f"{path}/") for taken in taken_by):
        raise ValueError(
            "this path belongs to the operator or to the system, or holds such a path: mount the volume elsewhere, "
            "for example under /data"
        )
    return path


class ClaimVolume(FrozenModel):
    """A PersistentVolumeClaim of the namespace of the custom resource."""

    claim_name: ObjectName
    read_only: bool | None = None


class KeyToPath(FrozenModel):
    """One key of a ConfigMap or Secret and the file that it becomes."""

    key: Annotated[str, Field(min_length=1, max_length=253)]
    path: Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_stays_inside)]


Items = Annotated[tuple[KeyToPath, ...], Field(max_length=32)]


class ConfigMapVolume(FrozenModel):
    """A ConfigMap of the namespace of the custom resource, as files."""

    name: ObjectName
    items: Items | None = None
    optional: bool | None = None


class SecretVolume(FrozenModel):
    """A Secret of the namespace of the custom resource, as files."""

    secret_name: ObjectName
    items: Items | None = None
    optional: bool | None = None


class EmptyDirVolume(FrozenModel):
    """Scratch space that lives as long as the pod."""

    medium: Literal["", "Memory"] | None = None
    size_limit: Quantity | None = None


def _is_not_ours(name: str) -> str:
    if name.startswith(RESERVED_VOLUMES):
        raise ValueError(f"volumes that begin with {RESERVED_VOLUMES} are made by the operator: use another name")
    return name


class TemplateVolume(FrozenModel):
    """A volume: exactly one of the four sources, all of them in the namespace of the custom resource."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        dns_label(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", "team-data"),
        AfterValidator(_is_not_ours),
    ]
    persistent_volume_claim: ClaimVolume | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDirVolume | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "TemplateVolume":
        sources = (self.persistent_volume_claim, self.config_map, self.secret, self.empty_dir)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("set exactly one of persistentVolumeClaim, configMap, secret and emptyDir")
        return self


class VolumeMount(FrozenModel):
    """Where a volume of `volumes` appears in the container."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    mount_path: Annotated[
        str,
        Field(min_length=1, max_length=512),
        TextForm(r"^/[^:]+$", "mountPath must be an absolute path without a colon, for example /data/train"),
        AfterValidator(_is_plain_and_free),
    ]
    sub_path: Annotated[str, Field(max_length=512), AfterValidator(_stays_inside)] | None = None
    read_only: bool | None = None
