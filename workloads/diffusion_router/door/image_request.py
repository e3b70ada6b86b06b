"""The body of `POST /v1/images/generations`: OpenAI's shape, with the fields that a diffusion model adds."""

from typing import Annotated, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from diffusion_contract.serving_config import SamplingSpec, ServiceClass
from diffusion_router.door.errors import ApiError
from diffusion_router.door.limits import MAX_IMAGES, MAX_SEED, MAX_STEPS

_NAME_SHOWN = 60


def _absent_is_one(value: object) -> object:
    return 1 if value is None else value


class ImageRequest(BaseModel):
    """What a client asks for. Every field does something or is refused; types are strict, null means absent."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    model: Annotated[str, Field(max_length=300)] | None = None
    """The name of the service; another one is refused with model_not_found."""
    prompt: Annotated[str, Field(max_length=4000)] | None = None
    """Text. A class-conditional model understands only the decimal number of a class here."""
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES), BeforeValidator(_absent_is_one)] = 1
    """How many images; image i is drawn from `seed + i`."""
    size: Annotated[str, Field(max_length=20)] | None = None
    """`WIDTHxHEIGHT` in pixels or `auto`; only the model's own size is served."""
    response_format: Literal["b64_json"] | None = None
    label: Annotated[int, Field(ge=0, le=99_999)] | None = None
    """The class that the images show. Absent: drawn from each image's seed."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    """The same seed gives the same image. Absent: drawn at random and told in the answer."""
    service_class: Annotated[str | None, Field(alias="class", max_length=31)] = None
    """The service class, which says how many steps; absent: the first one."""
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | None = None
    """Sampling steps, in place of those of the service class."""
    guidance_scale: Annotated[float, Field(ge=0, le=50)] | None = None
    """Classifier-free guidance (Ho and Salimans, arXiv 2207.12598); 1 is none. Absent: that of the service."""

    def to_wire(self) -> dict[str, object]:
        """The request as JSON-ready data; absent fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def check_model(self, service: str) -> None:
        """Raise ApiError when another model is asked for than the one that `service` serves."""
        if self.model not in (None, service):
            raise ApiError("model_not_found", f"this service is called {service}", param="model")

    def steps_with(self, sampling: SamplingSpec) -> int:
        """How many steps each image takes; raises ApiError for a service class that there is not."""
        return self.steps or self._class_among(sampling.classes).steps

    def class_with(self, sampling: SamplingSpec) -> str:
        """The name of the service class that this request runs in; raises ApiError for one that there is not."""
        return self._class_among(sampling.classes).name

    def _class_among(self, classes: tuple[ServiceClass, ...]) -> ServiceClass:
        if self.service_class is None:
            return classes[0]
        for candidate in classes:
            if candidate.name == self.service_class:
                return candidate
        names = ", ".join(candidate.name for candidate in classes)
        raise ApiError("invalid_value", f"class must be one of: {names}", param="class")


def parse_image_request(body: object) -> ImageRequest:
    """Check `body` against the schema; raises ApiError that names the first parameter at fault, never its value."""
    if not isinstance(body, dict):
        raise ApiError("invalid_value", "the body must be a JSON object")
    try:
        return ImageRequest.model_validate(body)
    except ValidationError as refusal:
        raise _named(refusal) from None


def _named(refusal: ValidationError) -> ApiError:
    first = refusal.errors(include_url=False, include_input=False, include_context=False)[0]
    location = cast("tuple[object, ...]", first["loc"])
    if not location:
        return ApiError("invalid_value", f"the body: {first['msg']}")
    name = str(location[0])[:_NAME_SHOWN]
    if first["type"] == "extra_forbidden":
        return ApiError("unknown_parameter", f"there is no parameter {name!r}; see docs/http-api.md", param=name)
    return ApiError("invalid_value", f"{name}: {first['msg']}", param=name)
