"""Samplers as tables: six numbers per step, so rows of one batch may stand at different steps of different samplers.

With a network output `out` at the row's time, one step is

    x0 = clip(p x + q out)                      the clean sample as the network sees it now
    x' = a x + b x0 + c x0_before + d noise     the sample at the next, lower noise level

and a sampler is nothing but its (p, q, a, b, c, d) per step. DDIM and Euler below need neither c (multistep solvers
do) nor d (stochastic ones do). The last row of each table returns x0 itself. diffusers' schedulers are the oracle of
the tests; they cannot run here, since none of them steps a batch whose rows stand at different times.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_contract.run_config import DiffusionSpec, ModelSpec
from diffusion_contract.serving_config import Sampler
from diffusion_core.denoisers import NULL_LABEL
from diffusion_core.normalization import Normalization
from diffusion_core.objectives import Denoise
from diffusion_core.randomness import Stream, normal_row, row_generator
from diffusion_core.schedules import alphas_cumprod, shift_time

SMALLEST_SIGNAL = 1e-5
"""DDIM begins at the last time at which this share of the clean sample's variance is left (A_t).

Where nothing is left, eps says nothing about x0, and x0 = (x - sqrt(1 - A) eps) / sqrt(A) is the network's rounding
times 1 / sqrt(A): 20,000 at the end of the cosine schedule, whose last A is 2.4e-9, against 316 here. That costs the
cosine schedule 3 of 1,000 times, and DDPM's linear one, which ends at 4e-5, none.
"""

CALM_GAIN = 2000.0
"""Largest gain of a step (`gains`) at which its row may share a batch.

A float32 network gives a row other last digits in a batch of another size, about 5e-7; times this and 127.5 grey levels
to the unit of x0, that stays below a seventh of a grey level.
"""


class SamplerRefused(ValueError):
    """The sampler cannot draw from a model of this kind, or not in so many steps."""


@dataclass(frozen=True)
class SamplerTable:
    """What S steps of a sampler do. Built once per number of steps; rows are gathered from it at every tick."""

    timesteps: Tensor
    """[S] fp32: the time that the network is told, in 0..T, falling."""
    coefficients: Tensor
    """[S,6] fp32: p, q, a, b, c, d."""
    clip: float
    """x0 is cut off at -clip and clip: 1 for DDIM in pixel space, infinity for Euler."""

    @property
    def steps(self) -> int:
        """S."""
        return len(self.timesteps)


def sampler_table(sampler: Sampler, steps: int, diffusion: DiffusionSpec) -> SamplerTable:
    """The table of a sampler. Raises SamplerRefused when it does not fit the model's prediction or the steps."""
    timesteps = diffusion.schedule.timesteps
    if not 1 <= steps <= timesteps:
        raise SamplerRefused(f"steps must be between 1 and {timesteps} (the schedule's timesteps), got {steps}")
    match sampler, diffusion.prediction:
        case "DDIM", "Epsilon":
            return _ddim_table(steps, diffusion)
        case "Euler", "Flow":
            return _euler_table(steps, diffusion)
    fitting = "Euler" if diffusion.prediction == "Flow" else "DDIM"
    raise SamplerRefused(f"sampler {sampler} does not fit prediction {diffusion.prediction}: use {fitting}")


def _ddim_table(steps: int, diffusion: DiffusionSpec) -> SamplerTable:
    """DDIM with eta = 0 (Song et al., eq. 12), A and B being alphas_cumprod now and at the next step.

        x0 = (x - sqrt(1 - A) eps) / sqrt(A),      x' = sqrt(B) x0 + sqrt(1 - B) eps,    B = 1 at the end

    With eps written as (x - sqrt(A) x0) / sqrt(1 - A), x' is linear in x and the clipped x0 (diffusers calls that
    `use_clipped_model_output`). The times begin at the noisiest one that still says something (SMALLEST_SIGNAL; T - 1
    but for the cosine schedule) and are spread evenly from there ("trailing": Lin et al., arXiv 2305.08891, table 2),
    so the first step expects the pure noise that it gets. Of nearly T steps some stay where they are.

    On a linear schedule, and where S divides T, that is diffusers' DDIMScheduler with `timestep_spacing="trailing"` and
    `use_clipped_model_output`, number for number. Where S does not divide T, diffusers evaluates at the same times but
    steps to t - T // S, which is not the time at which it evaluates next; here B is always that of the next time.
    """
    levels = alphas_cumprod(diffusion.schedule)
    total = max(1, int((levels >= SMALLEST_SIGNAL).sum()))
    times = (total - torch.arange(steps, dtype=torch.float64) * total / steps).round().long() - 1  # [S]
    now = levels[times]  # A [S]
    after = torch.cat([levels[times[1:]], torch.ones(1, dtype=torch.float64)])  # B [S]
    r = ((1 - after) / (1 - now)).sqrt()
    zero = torch.zeros_like(now)
    columns = [1 / now.sqrt(), -((1 - now) / now).sqrt(), r, after.sqrt() - r * now.sqrt(), zero, zero]
    return SamplerTable(times.float(), torch.stack(columns, 1).float(), clip=1.0)


def _euler_table(steps: int, diffusion: DiffusionSpec) -> SamplerTable:
    """Euler's method on dx/ds = v (SD3, eq. 1), s from 1 to 0 in equal steps, then shifted; u is the next s.

    x0 = x - s v,      x' = x + (u - s) v = (u/s) x + (1 - u/s) x0,      u = 0 at the end
    """
    s = shift_time(torch.linspace(1, 1 / steps, steps, dtype=torch.float64), diffusion.schedule.shift)  # [S]
    ratio = torch.cat([s[1:], torch.zeros(1, dtype=torch.float64)]) / s  # u/s [S]
    zero, one = torch.zeros_like(s), torch.ones_like(s)
    columns = [one, -s, ratio, 1 - ratio, zero, zero]
    return SamplerTable((s * diffusion.schedule.timesteps).float(), torch.stack(columns, 1).float(), clip=math.inf)


def advance_rows(
    x: Tensor, out: Tensor, prev_x0: Tensor | None, coefficients: Tensor, noise: Tensor | None, clip: float
) -> tuple[Tensor, Tensor]:
    """One step of every row, each by its own coefficients. Returns (x', x0), both [B,C,H,W].

    x, out, prev_x0, noise: [B,C,H,W]; coefficients: [B,6]. `prev_x0` and `noise` may be None where c and d are 0.
    No row's numbers enter another row's.
    """
    p, q, a, b, c, d = coefficients.to(x).view(-1, 6, 1, 1, 1).unbind(1)  # each [B,1,1,1]
    x0 = (p * x + q * out).clamp(-clip, clip)
    after = a * x + b * x0
    if prev_x0 is not None:
        after = after + c * prev_x0
    if noise is not None:
        after = after + d * noise
    return after, x0


def gains(coefficients: Tensor, scale: Tensor) -> Tensor:
    """How much larger an error of the network's output becomes in x0: |q| (|w| + |w - 1|), [B].

    coefficients: [B,6]; the guidance scale w: [B], or one for all. The two outputs that guidance combines err
    independently.
    """
    return coefficients[:, 1].abs() * (scale.abs() + (scale - 1).abs())


def guided(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """Classifier-free guidance: u + w (c - u) (Ho and Salimans, eq. 6 with w = 1 + their w). scale w: [B]."""
    return unconditional + scale.to(conditional).view(-1, 1, 1, 1) * (conditional - unconditional)


def denoise_with_guidance(denoise: Denoise, x: Tensor, t: Tensor, labels: Tensor | None, scale: Tensor) -> Tensor:
    """The network's output for rows [B,C,H,W], of which those with a scale other than 1 are evaluated twice.

    The second, unconditional evaluation of those rows rides in the same batch. `labels` is None for a model without
    conditioning, whose scale has no effect.
    """
    if labels is None:
        return denoise(x, t, None)
    twice = (scale != 1).nonzero().flatten()  # [G], where `scale` is: on the CPU this waits for no accelerator
    if len(twice) == 0:
        return denoise(x, t, labels)
    rows = twice.to(x.device)
    null = torch.full_like(labels[rows], NULL_LABEL)
    out = denoise(torch.cat([x, x[rows]]), torch.cat([t, t[rows]]), torch.cat([labels, null]))  # [B+G,C,H,W]
    result = out[: len(x)].clone()
    result[rows] = guided(result[rows], out[len(x) :], scale[twice])
    return result


def initial_noise(seed: int, model: ModelSpec) -> Tensor:
    """What the image of this seed starts from: [C,H,W] standard normal, the same in every batch and on every device."""
    denoiser = model.denoiser
    shape = (denoiser.channels, denoiser.sample_size, denoiser.sample_size)
    return normal_row(row_generator(seed, Stream.SAMPLING), shape)


@torch.inference_mode()
def generate(
    denoise: Denoise,
    model: ModelSpec,
    diffusion: DiffusionSpec,
    normalization: Normalization,
    labels: Sequence[int] | None,
    seeds: Sequence[int],
    sampler: Sampler,
    steps: int,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Draw one image per seed, all rows in step: uint8 [B,C,H,W]. The reference for engines that batch step by step."""
    table = sampler_table(sampler, steps, diffusion)
    x = torch.stack([initial_noise(seed, model) for seed in seeds])
    told = None if labels is None else torch.tensor(labels)
    scale = torch.full((len(seeds),), guidance_scale)
    for time, row in zip(table.timesteps, table.coefficients, strict=True):
        out = denoise_with_guidance(denoise, x, time.expand(len(x)), told, scale)
        x, _ = advance_rows(x, out, None, row.expand(len(x), 6), None, table.clip)
    return normalization.to_uint8(x)
