"""An image id holds everything from which the picture can be made again: it is a recipe, not a key into a store."""

import base64
import binascii
import json

from pydantic import ConfigDict, TypeAdapter

from diffusion_contract.serving_config import Sampler
from diffusion_server.samples import Sample

_PREFIX = "img1-"
_RECIPE: TypeAdapter[tuple[str, Sampler, int, float, int | None, int]] = TypeAdapter(
    tuple[str, Sampler, int, float, int | None, int], config=ConfigDict(strict=True)
)
"""Digest without its prefix, sampler, steps, guidance scale, label, seed."""


def image_id(digest: str, sample: Sample) -> str:
    """The id of `sample` drawn from the model version `digest`: URL-safe text that `read_image_id` understands."""
    recipe = [digest.removeprefix("sha256:"), sample.sampler, sample.steps, sample.guidance_scale]
    packed = json.dumps([*recipe, sample.label, sample.seed], separators=(",", ":")).encode()
    return _PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_image_id(text: str) -> tuple[str, Sample]:
    """The model digest and the sample that `text` stands for; raises ValueError where it is not an image id."""
    encoded = text.removeprefix(_PREFIX)
    try:
        packed = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        digest, sampler, steps, guidance, label, seed = _RECIPE.validate_json(packed)
    except (binascii.Error, ValueError) as problem:
        raise ValueError(f"{text[:40]!r} is not an image id") from problem
    sample = Sample(seed=seed, label=label, steps=steps, guidance_scale=guidance, sampler=sampler)
    return f"sha256:{digest}", sample
