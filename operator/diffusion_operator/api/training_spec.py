"""DiffusionTraining.spec as a frozen value. The parts that pods read are those of `diffusion_contract.run_config`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.run_config import (
    CheckpointInterval,
    CheckpointSpec,
    DatasetSpec,
    DiffusionSpec,
    ModelSpec,
    Retention,
    TrainingSpec,
)
from diffusion_operator.api.errors import SpecInvalid, spec_invalid
from diffusion_operator.api.pod_template import PodTemplate, Quantity, ResourcesSpec, Toleration

Capacity = Literal["OnDemand", "Spot"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
PoolName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=12)]


class ClaimSpec(FrozenModel):
    """A PersistentVolumeClaim that the operator makes; it is deleted together with the custom resource."""

    size: Quantity
    storage_class_name: str | None = None
    access_modes: Annotated[
        tuple[Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"], ...], Field(min_length=1)
    ] = ("ReadWriteMany",)


class StorageSpec(FrozenModel):
    """A volume: a claim that we make, or one that is there already. Exactly one of the two."""

    claim: ClaimSpec | None = None
    existing_claim: Name | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "StorageSpec":
        if (self.claim is None) == (self.existing_claim is None):
            raise ValueError("set exactly one of claim and existingClaim")
        return self


class CheckpointSettings(CheckpointSpec):
    """What pods read about checkpoints, and where these lie."""

    storage: StorageSpec
    interval: CheckpointInterval = CheckpointInterval(seconds=300)
    on_preemption: bool = True
    retain: Retention = Retention()


class WorkersSpec(FrozenModel):
    """How many workers, and what each of them is. The run goes on as long as `min` of them are left."""

    min: Annotated[int, Field(ge=1, le=256)] = 1
    max: Annotated[int, Field(ge=1, le=256)] = 1
    processes_per_worker: Annotated[int, Field(ge=1, le=16)] = 1
    image: str | None = None
    resources: ResourcesSpec = ResourcesSpec()
    template: PodTemplate = PodTemplate()

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> "WorkersSpec":
        if self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class PoolSpec(FrozenModel):
    """Workers of one kind of node: `replicas` of them, or up to `max`."""

    name: PoolName
    capacity: Capacity = "OnDemand"
    replicas: Annotated[int, Field(ge=0, le=256)] | None = None
    max: Annotated[int, Field(ge=0, le=256)] | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()

    @model_validator(mode="after")
    def _exactly_one_size(self) -> "PoolSpec":
        if (self.replicas is None) == (self.max is None):
            raise ValueError("set exactly one of replicas and max")
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

    license: str | None = None
    intended_use: str | None = None


class PublishSpec(FrozenModel):
    """The model version at the end: its name (default: that of the custom resource) and the volume for it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$", max_length=128)] | None = None
    claim: ClaimSpec | None = None
    existing_claim: Name | None = None
    card: ModelCardSpec = ModelCardSpec()

    @model_validator(mode="after")
    def _exactly_one_volume(self) -> "PublishSpec":
        if (self.claim is None) == (self.existing_claim is None):
            raise ValueError("set exactly one of claim and existingClaim")
        return self


class DiffusionTrainingSpec(FrozenModel):
    """The whole spec. A field that is not named here is refused."""

    model: ModelSpec = ModelSpec()
    diffusion: DiffusionSpec = DiffusionSpec()
    dataset: DatasetSpec
    training: TrainingSpec
    workers: WorkersSpec = WorkersSpec()
    pools: tuple[PoolSpec, ...] = ()
    checkpoint: CheckpointSettings
    failure_policy: FailurePolicy = FailurePolicy()
    suspend: bool = False
    publish: PublishSpec | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "DiffusionTrainingSpec":
        names = [pool.name for pool in self.pools]
        if len(set(names)) != len(names):
            raise ValueError("pools: each name may stand once")
        if self.pools and sum(pool.size for pool in self.pools) != self.workers.max:
            raise ValueError("pools: replicas and max of all pools must add up to workers.max")
        if self.dataset.uri.startswith("file://") and self.dataset.digest is None:
            raise ValueError("dataset: a file:// dataset needs its digest: every run learns from the same bytes")
        largest = self.workers.max * self.workers.processes_per_worker
        if self.training.global_batch_size < largest:
            raise ValueError(
                f"training.globalBatchSize must be at least {largest} (workers.max times processesPerWorker): "
                "every process needs a sample"
            )
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
    try:
        spec = DiffusionTrainingSpec.model_validate(raw.get("spec") or {})
    except ValidationError as error:
        raise spec_invalid(error) from error
    return TrainingCustomResource(
        name=str(metadata.get("name", "")),
        namespace=str(metadata.get("namespace", "")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation", 0)),
        spec=spec,
    )


__all__ = ["DiffusionTrainingSpec", "PoolSpec", "SpecInvalid", "TrainingCustomResource", "parse_training"]
