"""DiffusionService.spec as a frozen value."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.model_reference import parse_model_reference
from diffusion_contract.serving_config import SamplingSpec
from diffusion_operator.api.errors import SpecInvalid, spec_invalid
from diffusion_operator.api.kubernetes_names import SUBDOMAIN_FORM, Image, ObjectName
from diffusion_operator.api.pod_template import PodTemplate
from diffusion_operator.api.resources import ResourcesSpec


class TrainingReference(FrozenModel):
    """A DiffusionTraining of the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=50), SUBDOMAIN_FORM]


class ServedModel(FrozenModel):
    """The model version: `ref`, or the one that a training publishes. Exactly one of the two."""

    ref: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    from_training: TrainingReference | None = None

    @field_validator("ref")
    @classmethod
    def _with_a_digest(cls, ref: str | None) -> str | None:
        if ref is not None:
            parse_model_reference(ref)
        return ref

    @model_validator(mode="after")
    def _exactly_one(self) -> "ServedModel":
        if (self.ref is None) == (self.from_training is None):
            raise ValueError("set exactly one of ref and fromTraining")
        return self


class BatchingSpec(FrozenModel):
    """How requests share a computation: at most `max_batch` images at once in an engine pod."""

    max_batch: Annotated[int, Field(ge=1, le=1024)] = 16


class ReplicasSpec(FrozenModel):
    """How many engine pods run: `min` of them, always. The scale subresource writes it."""

    min: Annotated[int, Field(ge=0, le=100)] = 1


class SecretReference(FrozenModel):
    """A Secret of the same namespace."""

    name: ObjectName


class AuthSpec(FrozenModel):
    """Who may ask for images: the entries of the Secret are hashes of keys."""

    keys_ref: SecretReference


class DiffusionServiceSpec(FrozenModel):
    """The whole spec. A field that is not named here is refused."""

    model: ServedModel
    image: Image | None = None
    resources: ResourcesSpec = ResourcesSpec()
    template: PodTemplate = PodTemplate()
    sampling: SamplingSpec = SamplingSpec()
    batching: BatchingSpec = BatchingSpec()
    replicas: ReplicasSpec = ReplicasSpec()
    auth: AuthSpec


def parse_service_spec(raw: Mapping[str, Any]) -> DiffusionServiceSpec:
    """Parse the `spec` of a custom resource; raises SpecInvalid with the path of the first field that is refused."""
    if raw.get("spec") is None:
        raise SpecInvalid("spec", "Field required")
    try:
        return DiffusionServiceSpec.model_validate(raw["spec"])
    except ValidationError as error:
        raise spec_invalid(error) from error
