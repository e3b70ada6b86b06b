"""Exponential moving average of a denoiser's weights, by name and in fp32.

By name, so that shards written at one world size load at another; diffusers' EMAModel pairs by position and would
truncate in silence. The decay warms up as (1 + n) / (10 + n), so a run of a few hundred steps forgets its start.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


class EMA:
    """shadow = d shadow + (1 - d) weights, d = min(decay, (1 + n) / (10 + n)), n = updates so far.

    `weights` holds the fp32 shadows (entries that are not floating point are copied as they are) and `updates` counts.
    Both, with `decay`, are the whole state: `EMA(saved_weights, decay, updates)` goes on where the saved one stopped.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float, updates: int = 0) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.updates = updates
        self.weights: dict[str, Tensor] = {name: _shadow_of(tensor) for name, tensor in weights.items()}

    @property
    def current_decay(self) -> float:
        """The decay of the next update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor]) -> None:
        """Take in the weights after one optimizer step. Raises ValueError when the names are not those of the start."""
        if weights.keys() != self.weights.keys():
            differing = sorted(weights.keys() ^ self.weights.keys())
            raise ValueError(f"the weights have other names than the average: {', '.join(differing[:5])}")
        share = 1 - self.current_decay
        for name, shadow in self.weights.items():
            current = weights[name].detach()
            if shadow.is_floating_point():
                shadow.lerp_(current.to(shadow), share)
            else:
                shadow.copy_(current)
        self.updates += 1


def _shadow_of(tensor: Tensor) -> Tensor:
    """A copy that shares no memory: fp32 where the tensor is floating point."""
    return tensor.detach().to(dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
