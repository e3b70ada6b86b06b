"""The best denoiser that there can be for a handful of real digits, with the rounding that other batch sizes bring.

A network that has converged nearly answers with its own input where there is only noise, so that a sampler subtracts
two almost equal numbers: random weights, whose clean samples are cut off at once, never show what that amplifies.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffusion_contract.run_config import DiffusionSpec
from diffusion_core.denoisers import NULL_LABEL, Denoiser
from diffusion_core.schedules import alphas_cumprod
from tiny_models import TEN_CLASSES, tiny_dit

ROUNDING = 5e-7
"""How far outputs of a float32 network lie apart in batches of different sizes."""


class OptimalDenoiser(Denoiser):
    """Predicts from E[x0 | x, label] over 200 digits, in float64; then errs by ROUNDING, otherwise in each crowd."""

    def __init__(self, diffusion: DiffusionSpec) -> None:
        super().__init__(tiny_dit(TEN_CLASSES))
        digits = load_digits()
        self._images = torch.from_numpy(digits.images[:200] / 8 - 1).flatten(1)  # [N,64] float64
        self._labels = torch.from_numpy(digits.target[:200])
        self._diffusion = diffusion

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """As every Denoiser: x [B,1,8,8], t [B], labels [B]."""
        assert labels is not None
        clean, noise = self._shares(t.double())  # [B,1]
        flat = x.double().flatten(1)
        likely = (clean * flat @ self._images.T - clean**2 / 2 * self._images.square().sum(1)) / noise**2  # [B,N]
        asked = (labels[:, None] == self._labels) | (labels[:, None] == NULL_LABEL)
        mean = likely.masked_fill(~asked, -np.inf).softmax(1) @ self._images  # [B,64]
        eps = (flat - clean * mean) / noise
        out = eps - mean if self._diffusion.prediction == "Flow" else eps
        return out.float().view_as(x) + _rounding(len(x))

    def predict(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """Not reached: `forward` knows the null class by itself."""
        raise NotImplementedError

    def _shares(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """How much of x is clean sample and how much is noise, each [B,1]."""
        if self._diffusion.prediction == "Flow":
            s = (t / self._diffusion.schedule.timesteps).view(-1, 1)
            return 1 - s, s
        kept = alphas_cumprod(self._diffusion.schedule)[t.long()].view(-1, 1)
        return kept.sqrt(), (1 - kept).sqrt()


def _rounding(rows: int) -> Tensor:
    return ROUNDING * torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(rows))
