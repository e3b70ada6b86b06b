"""Pixels to the model's range and back. The range is stored with the model, so serving undoes what training did."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch import Tensor

from diffusion_contract.frozen_model import FrozenModel


class Normalization(FrozenModel):
    """The dataset's value range, per channel: pixel values minimum..maximum stand for -1..1 in the model."""

    minimum: Annotated[tuple[float, ...], Field(min_length=1)]
    maximum: Annotated[tuple[float, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> "Normalization":
        if len(self.minimum) != len(self.maximum):
            raise ValueError("minimum and maximum must have one number per channel each")
        if not all(low < high for low, high in zip(self.minimum, self.maximum, strict=True)):
            raise ValueError("minimum must be below maximum in every channel")
        return self

    def to_model(self, pixels: Tensor | npt.NDArray[np.generic]) -> Tensor:
        """Pixels [B,C,H,W] of any number type -> fp32 [B,C,H,W], -1..1 over the dataset's range."""
        values = torch.as_tensor(pixels).float()
        low, high = self._bounds(values)
        return (values - low) / (high - low) * 2 - 1

    def to_pixels(self, x: Tensor) -> Tensor:
        """The inverse of `to_model`, fp32 in the dataset's own units; values out of range are cut off."""
        low, high = self._bounds(x)
        return (x.float().clamp(-1, 1) + 1) / 2 * (high - low) + low

    def to_uint8(self, x: Tensor) -> Tensor:
        """Model values [B,C,H,W] -> what an image file holds, uint8 0..255 (0 = the dataset's minimum)."""
        self._bounds(x)  # only for its check of the channels
        return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    def _bounds(self, values: Tensor) -> tuple[Tensor, Tensor]:
        if values.dim() != 4 or values.shape[1] != len(self.minimum):
            raise ValueError(f"expected [B,{len(self.minimum)},H,W], got {list(values.shape)}")
        shape = (1, -1, 1, 1)
        return (
            torch.tensor(self.minimum, device=values.device).view(shape),
            torch.tensor(self.maximum, device=values.device).view(shape),
        )


def measure_normalization(pixels: npt.NDArray[np.generic]) -> Normalization:
    """The range of a dataset [N,C,H,W]: 0..255 for bytes, else the least and greatest value of each channel.

    A channel that is constant gets a range of 1 around it, or what fp32 can tell apart. Raises ValueError for a
    dataset that is empty, holds NaN or infinity, or has a range that fp32 cannot hold.
    """
    if pixels.ndim != 4 or pixels.size == 0:
        raise ValueError(f"expected samples [N,C,H,W] and at least one, got {list(pixels.shape)}")
    channels = pixels.shape[1]
    if pixels.dtype == np.uint8:
        return Normalization(minimum=(0.0,) * channels, maximum=(255.0,) * channels)
    low = pixels.min(axis=(0, 2, 3)).astype(np.float64)
    high = pixels.max(axis=(0, 2, 3)).astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("the dataset holds NaN or infinity: remove them")
    half = np.where(low == high, np.maximum(0.5, np.abs(low) * 2.0**-20), 0.0)
    low, high = low - half, high + half
    with np.errstate(over="ignore", invalid="ignore"):
        span = high.astype(np.float32) - low.astype(np.float32)
    if not (np.isfinite(span) & (span >= np.finfo(np.float32).tiny)).all():
        raise ValueError(
            f"its values, {low.min()} to {high.max()}, are too large for fp32 or too close together: rescale them"
        )
    return Normalization(minimum=tuple(low.tolist()), maximum=tuple(high.tolist()))
