"""DiffusionTraining.spec as a frozen value. The parts that pods read are those of `diffusion_contract.run_config`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from diffusion_contract.frozen_model import FrozenModel, Misfit
from diffusion_contract.quantity import quantity_value
from diffusion_contract.run_config import CheckpointSpec, DatasetSpec, DiffusionSpec, ModelSpec, TrainingSpec
from diffusion_contract.text_form import TextForm
from diffusion_contract.unique_items import once
from diffusion_operator.api.errors import SpecInvalid, spec_invalid
from diffusion_operator.api.kubernetes_names import Image, NodeLabels, ObjectName, dns_label
from diffusion_operator.api.pod_template import PodTemplate, Tolerations
from diffusion_operator.api.resources import GPUS, Quantity, ResourcesSpec

Capacity = Literal["OnDemand", "Spot"]
AccessMode = Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]
PoolName = Annotated[str, Field(min_length=1, max_length=12), dns_label(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "spot-2")]

VersionName = Annotated[
    str,
    Field(max_length=128),
    TextForm(
        r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$",
        "a name is made of lower-case letters, digits, -, _ and ., with a letter or digit at both ends, for example "
        "digits-v1: correct it",
    ),
]


def _is_above_zero(size: str) -> str:
    if not quantity_value(size):
        raise ValueError("size must be above 0: a volume of nothing cannot be made")
    return size


def _one_pod_goes_alone(modes: tuple[AccessMode, ...]) -> tuple[AccessMode, ...]:
    if len(modes) > 1 and "ReadWriteOncePod" in modes:
        raise ValueError("ReadWriteOncePod goes with no other mode: remove it, or the others")
    return modes


class ClaimSpec(FrozenModel):
    """A PersistentVolumeClaim that the operator makes; it is deleted together with the custom resource."""

    size: Annotated[Quantity, AfterValidator(_is_above_zero)]
    storage_class_name: ObjectName | None = None
    access_modes: Annotated[
        tuple[AccessMode, ...], Field(min_length=1, max_length=4), AfterValidator(_one_pod_goes_alone)
    ] = ("ReadWriteMany",)

    @property
    def serves_one_pod(self) -> bool:
        """Whether a second worker could not mount it."""
        return "ReadWriteOncePod" in self.access_modes


class StorageSpec(FrozenModel):
    """A volume: a claim that we make, or one that is there already. Exactly one of the two."""

    claim: ClaimSpec | None = None
    existing_claim: ObjectName | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "StorageSpec":
        if (self.claim is None) == (self.existing_claim is None):
            raise ValueError("set exactly one of claim and existingClaim")
        return self


class CheckpointSettings(CheckpointSpec):
    """What pods read about checkpoints, and where these lie."""

    storage: StorageSpec


class WorkersSpec(FrozenModel):
    """How many workers, and what each of them is. The run goes on as long as `min` of them are left."""

    min: Annotated[int, Field(ge=1, le=256)] = 1
    max: Annotated[int, Field(ge=1, le=256)] = 1
    processes_per_worker: Annotated[int, Field(ge=1, le=16)] = 1
    image: Image | None = None
    resources: ResourcesSpec = ResourcesSpec()
    template: PodTemplate = PodTemplate()

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> "WorkersSpec":
        if self.min > self.max:
            raise Misfit("min", "min must not be above max: raise max, or lower min")
        return self

    @model_validator(mode="after")
    def _each_process_has_a_device(self) -> "WorkersSpec":
        devices = [quantity_value(self.resources.limits[gpu]) for gpu in GPUS if gpu in self.resources.limits]
        if any(count and count < self.processes_per_worker for count in devices):
            raise Misfit(
                "processesPerWorker",
                "processesPerWorker must not be above the GPUs in resources.limits, because no two processes share "
                "one: lower it, or raise the limit",
            )
        return self


class PoolSpec(FrozenModel):
    """Workers of one kind of node: `replicas` of them, or up to `max`."""

    name: PoolName
    capacity: Capacity = "OnDemand"
    replicas: Annotated[int, Field(ge=0, le=256)] | None = None
    max: Annotated[int, Field(ge=0, le=256)] | None = None
    node_selector: NodeLabels = Field(default_factory=dict)
    tolerations: Tolerations = ()

    @model_validator(mode="after")
    def _exactly_one_size(self) -> "PoolSpec":
        if (self.replicas is None) == (self.max is None):
            raise Misfit("max", "set exactly one of replicas and max")
        return self

    @property
    def size(self) -> int:
        """Workers that this pool asks for."""
        return self.replicas if self.replicas is not None else self.max or 0


class FailurePolicy(FrozenModel):
    """When the run gives up: after more than `max_restarts` crashes. Disruptions never count."""

    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 10


class ModelCardSpec(FrozenModel):
    """What the model card says besides what the run knows."""

    license: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    intended_use: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


class PublishSpec(FrozenModel):
    """The model version at the end: its name (default: that of the custom resource) and the volume for it."""

    name: VersionName | None = None
    claim: ClaimSpec | None = None
    existing_claim: ObjectName | None = None
    card: ModelCardSpec = ModelCardSpec()

    @model_validator(mode="after")
    def _exactly_one_volume(self) -> "PublishSpec":
        if (self.claim is None) == (self.existing_claim is None):
            raise ValueError("set exactly one of claim and existingClaim")
        return self


_ELSE = "or name another dataset"


class DiffusionTrainingSpec(FrozenModel):
    """The whole spec. A field that is not named here is refused."""

    model: ModelSpec = ModelSpec()
    diffusion: DiffusionSpec = DiffusionSpec()
    dataset: DatasetSpec
    training: TrainingSpec
    workers: WorkersSpec = WorkersSpec()
    pools: Annotated[tuple[PoolSpec, ...], Field(min_length=1, max_length=8), AfterValidator(once("name"))] = ()
    checkpoint: CheckpointSettings
    failure_policy: FailurePolicy = FailurePolicy()
    suspend: bool = False
    publish: PublishSpec | None = None

    @model_validator(mode="after")
    def _workers_add_up(self) -> "DiffusionTrainingSpec":
        if self.pools and sum(pool.size for pool in self.pools) != self.workers.max:
            raise Misfit(
                "pools", "replicas and max of all pools must add up to workers.max: change a pool, or workers.max"
            )
        if self.training.global_batch_size < self.workers.max * self.workers.processes_per_worker:
            raise Misfit(
                "training.globalBatchSize",
                "globalBatchSize must be at least workers.max times workers.processesPerWorker, so that every process "
                "has a sample: raise it, or lower one of them",
            )
        return self

    @model_validator(mode="after")
    def _volumes_serve_all_workers(self) -> "DiffusionTrainingSpec":
        claims = {
            "checkpoint.storage.claim.accessModes": self.checkpoint.storage.claim,
            "publish.claim.accessModes": self.publish.claim if self.publish else None,
        }
        for path, claim in claims.items():
            if claim is not None and claim.serves_one_pod and self.workers.max > 1:
                raise Misfit(
                    path, "ReadWriteOncePod gives the volume to one pod, and workers.max is above 1: use ReadWriteMany"
                )
        return self

    @model_validator(mode="after")
    def _dataset_fits(self) -> "DiffusionTrainingSpec":
        if self.dataset.uri != "builtin://digits":
            if self.dataset.digest is None:
                raise Misfit(
                    "dataset.digest", "a dataset at file:// needs its digest: set dataset.digest to sha256:HEX"
                )
            return self
        denoiser, classes = self.model.denoiser, self.model.conditioning.classes
        what = "builtin://digits has"
        if denoiser.sample_size != 8:
            raise Misfit("model.denoiser.sampleSize", f"{what} images of 8 by 8 pixels: set sampleSize to 8, {_ELSE}")
        if denoiser.channels != 1:
            raise Misfit("model.denoiser.channels", f"{what} grey images: set channels to 1, {_ELSE}")
        if classes is not None and classes < 10:
            raise Misfit("model.conditioning.classes", f"{what} ten classes: set classes to 10 or more, {_ELSE}")
        return self

    @property
    def effective_pools(self) -> tuple[PoolSpec, ...]:
        """`pools`, or one pool `base` of `workers.max` on-demand workers where there are none."""
        return self.pools or (PoolSpec(name="base", replicas=self.workers.max),)


@dataclass(frozen=True)
class TrainingCustomResource:
    """One DiffusionTraining: who it is, and what it asks for."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: DiffusionTrainingSpec


def parse_training(raw: Mapping[str, Any]) -> TrainingCustomResource:
    """Parse a custom resource; raises SpecInvalid with the path of the first field that is refused."""
    metadata = raw.get("metadata") or {}
    if raw.get("spec") is None:
        raise SpecInvalid("spec", "Field required")
    try:
        spec = DiffusionTrainingSpec.model_validate(raw["spec"])
    except ValidationError as error:
        raise spec_invalid(error) from error
    return TrainingCustomResource(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        spec=spec,
    )
