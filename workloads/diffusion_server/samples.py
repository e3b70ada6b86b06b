"""From a request to the images that it asks for: every choice that the client left open is made here, once."""

import hashlib
import re
import secrets
from dataclasses import dataclass

from diffusion_contract.serving_config import Sampler, SamplingSpec
from diffusion_router.door.errors import ApiError
from diffusion_router.door.image_request import ImageRequest
from diffusion_router.door.limits import MAX_SEED, RANDOM_SEEDS


@dataclass(frozen=True)
class ServedModel:
    """What the door must know of the loaded model. `classes` is None for an unconditional one."""

    digest: str
    width: int
    height: int
    classes: int | None
    timesteps: int

    @property
    def size(self) -> str:
        """`WIDTHxHEIGHT` in pixels."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Sample:
    """One image to be made. These five values and the model's digest decide every pixel."""

    seed: int
    label: int | None
    steps: int
    guidance_scale: float
    sampler: Sampler


def samples_of(request: ImageRequest, sampling: SamplingSpec, model: ServedModel) -> tuple[Sample, ...]:
    """The images that `request` asks for; raises ApiError for what this model cannot do."""
    if request.size not in (None, "auto", model.size):
        raise ApiError("invalid_value", f"this model makes images of {model.size} only", param="size")
    steps = request.steps_with(sampling)
    if steps > model.timesteps:
        message = f"this model was trained with {model.timesteps} time steps: it cannot take more"
        raise ApiError("invalid_value", message, param="steps")
    label = _asked_label(request, model)
    guidance = _asked_guidance(request, sampling, model)
    first = secrets.randbelow(RANDOM_SEEDS) if request.seed is None else request.seed
    seeds = ((first + offset) % (MAX_SEED + 1) for offset in range(request.n))
    return tuple(Sample(seed, _label_or_drawn(label, seed, model), steps, guidance, sampling.sampler) for seed in seeds)


def _asked_guidance(request: ImageRequest, sampling: SamplingSpec, model: ServedModel) -> float:
    if request.guidance_scale is None:
        return sampling.guidance_scale
    if model.classes is None and request.guidance_scale != 1.0:
        message = "this model knows no classes, so there is nothing to guide towards: leave it out, or write 1"
        raise ApiError("invalid_value", message, param="guidance_scale")
    return float(request.guidance_scale)


def _asked_label(request: ImageRequest, model: ServedModel) -> int | None:
    """The class that `label` names, or the decimal number in `prompt`, as OpenAI's clients always send a prompt."""
    from_prompt = _label_in(request.prompt, model)
    if request.label is None:
        return from_prompt
    _check_label(request.label, "label", model)
    if from_prompt not in (None, request.label):
        raise ApiError("invalid_value", "prompt and label name different classes", param="prompt")
    return request.label


def _label_in(prompt: str | None, model: ServedModel) -> int | None:
    if prompt is None or not prompt.strip():
        return None
    if model.classes is None:
        raise ApiError("invalid_value", "this model reads no text and knows no classes: leave prompt empty", "prompt")
    if not re.fullmatch(r"[0-9]{1,5}", prompt.strip()):
        message = "this model does not read text: leave prompt empty, or write the number of a class"
        raise ApiError("invalid_value", message, param="prompt")
    label = int(prompt)
    _check_label(label, "prompt", model)
    return label


def _check_label(label: int, param: str, model: ServedModel) -> None:
    if model.classes is None:
        raise ApiError("invalid_value", "this model knows no classes", param=param)
    if label >= model.classes:
        raise ApiError("invalid_value", f"the class must be from 0 to {model.classes - 1}", param=param)


def _label_or_drawn(label: int | None, seed: int, model: ServedModel) -> int | None:
    """Without a class asked for, the seed draws one: the same seed gives the same image in this case as well."""
    if label is not None or model.classes is None:
        return label
    digest = hashlib.sha256(f"label {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % model.classes
