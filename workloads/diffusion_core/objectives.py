"""What a denoiser is trained to do: the loss of each sample, with all its randomness drawn from the sample's position.

Epsilon: t ~ U{0..T-1},      x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) eps,  target eps          (DDPM, eq. 14)
Flow:    s = sigmoid(N(0,1)), x_s = (1 - s) x_0 + s eps,                target eps - x_0    (SD3, eq. 12, 14 and 19)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_contract.run_config import DiffusionSpec, ModelSpec, ScheduleSpec
from diffusion_core.denoisers import NULL_LABEL
from diffusion_core.randomness import RowRandomness, Stream, normal_row, row_generator
from diffusion_core.schedules import alphas_cumprod, shift_time

Denoise = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x [B,C,H,W], t [B] in 0..T, labels [B] or None) -> [B,C,H,W]: a Denoiser, wrapped for several processes or not."""


def training_loss(
    denoise: Denoise,
    clean: Tensor,
    labels: Tensor | None,
    rows: RowRandomness,
    model: ModelSpec,
    diffusion: DiffusionSpec,
) -> Tensor:
    """Mean squared error of each sample, [B] fp32; the caller averages.

    clean: [B,C,H,W] in the model's range; labels: [B] int64 in 0..classes-1, needed when the model is conditioned on
    classes and ignored otherwise. Raises ValueError when `rows` or `labels` do not fit `clean`.
    """
    if len(rows.positions) != len(clean):
        raise ValueError(f"{len(rows.positions)} positions for {len(clean)} samples")
    draws = [_draw_row(rows.seed, position, tuple(clean.shape[1:])) for position in rows.positions]
    noise = torch.stack([draw[0] for draw in draws]).to(clean.device)  # [B,C,H,W]
    uniform_time = torch.tensor([draw[1] for draw in draws], dtype=torch.float64)  # [B]
    normal_time = torch.tensor([draw[2] for draw in draws], dtype=torch.float64)  # [B]
    dropped = torch.tensor([draw[3] for draw in draws], dtype=torch.float64)  # [B]

    told = _labels_with_drop_out(labels, dropped, model)
    if diffusion.prediction == "Flow":
        x, t, target = _flow_pair(clean, noise, normal_time, diffusion.schedule)
    else:
        x, t, target = _epsilon_pair(clean, noise, uniform_time, diffusion.schedule)
    error = denoise(x, t, told).float() - target.float()  # [B,C,H,W]
    return error.square().flatten(1).mean(1)  # [B]


def _draw_row(seed: int, position: int, shape: tuple[int, ...]) -> tuple[Tensor, float, float, float]:
    """One row's noise, a uniform and a normal number for its time, and a uniform one for its label drop-out.

    All are always drawn, in one order, so a row's noise does not depend on the objective or the conditioning.
    """
    generator = row_generator(seed, Stream.TRAINING, position)
    uniform, normal, drop = generator.random(), generator.standard_normal(), generator.random()
    return normal_row(generator, shape), uniform, normal, drop


def _labels_with_drop_out(labels: Tensor | None, dropped: Tensor, model: ModelSpec) -> Tensor | None:
    """Replace a share of the labels by the null class, for classifier-free guidance (Ho and Salimans, algorithm 1)."""
    conditioning = model.conditioning
    if conditioning.classes is None:
        return None
    if labels is None or len(labels) != len(dropped):
        raise ValueError("the model is conditioned on classes: every sample needs a label")
    return torch.where((dropped < conditioning.dropout).to(labels.device), NULL_LABEL, labels)  # [B]


def _epsilon_pair(
    clean: Tensor, noise: Tensor, uniform: Tensor, schedule: ScheduleSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """(x_t, t, eps) of DDPM: t = floor(u T)."""
    step = (uniform * schedule.timesteps).long()  # [B] in 0..T-1, as u < 1
    kept = alphas_cumprod(schedule)[step].view(-1, 1, 1, 1).to(clean.device)  # [B,1,1,1] float64
    x = kept.sqrt().float() * clean + (1 - kept).sqrt().float() * noise
    return x, step.to(clean.device, torch.float32), noise


def _flow_pair(clean: Tensor, noise: Tensor, normal: Tensor, schedule: ScheduleSpec) -> tuple[Tensor, Tensor, Tensor]:
    """(x_s, s T, eps - x_0) of rectified flow, s logit-normal and then shifted."""
    s = shift_time(torch.sigmoid(normal), schedule.shift).to(clean.device, torch.float32)  # [B] in (0, 1)
    share = s.view(-1, 1, 1, 1)  # [B,1,1,1]
    return (1 - share) * clean + share * noise, s * schedule.timesteps, noise - clean
