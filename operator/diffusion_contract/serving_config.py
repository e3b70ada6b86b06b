"""What engine and router pods of a DiffusionService read: `engine.json` and `router.json` in their ConfigMaps."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from diffusion_contract.agent_messages import Route
from diffusion_contract.frozen_model import FrozenModel
from diffusion_contract.text_form import TextForm
from diffusion_contract.unique_items import once

Sampler = Literal["DDIM", "Euler"]


class ServiceClass(FrozenModel):
    """A named number of sampling steps that a request may ask for."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=31),
        TextForm(
            r"^[a-z][a-z0-9-]{0,30}$",
            "a name is made of lower-case letters, digits and -, and begins with a letter, for example preview: "
            "correct it",
        ),
    ]
    steps: Annotated[int, Field(ge=1, le=1000)]


class SamplingSpec(FrozenModel):
    """How images are drawn. DDIM goes with epsilon prediction, Euler with flow matching; the first class is default."""

    sampler: Sampler = "DDIM"
    guidance_scale: Annotated[float, Field(ge=0, le=50)] = 1.0
    classes: Annotated[tuple[ServiceClass, ...], Field(min_length=1, max_length=16), AfterValidator(once("name"))] = (
        ServiceClass(name="final", steps=20),
    )


class EngineConfig(FrozenModel):
    """One engine pod: the model version that it loads from MODELS_DIRECTORY/CLAIM, and how it samples."""

    service: str
    namespace: str
    revision: str
    model: str
    sampling: SamplingSpec
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 16


class RouterConfig(FrozenModel):
    """One router pod. `routes` hold since `since`; newer ones come over the agent channel, or here while it is down."""

    service: str
    namespace: str
    sampling: SamplingSpec
    routes: tuple[Route, ...] = ()
    since: str = ""
