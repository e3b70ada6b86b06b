"""Forward processes: how much of a clean sample is left at each time.

Discrete (Linear, Cosine): x_t = sqrt(A_t) x_0 + sqrt(1 - A_t) eps with A_t = prod(1 - beta_s), s <= t   (DDPM, eq. 4)
Continuous (FlowMatching): x_s = (1 - s) x_0 + s eps, with s from 0 (data) to 1 (noise)                 (SD3, eq. 12)
"""

import json
import math
from typing import TypeVar

import torch
from torch import Tensor

from diffusion_contract.digest import sha256_of
from diffusion_contract.run_config import DiffusionSpec, ScheduleSpec

COSINE_OFFSET = 0.008
"""s in eq. 17 of Nichol and Dhariwal: keeps beta from vanishing near t = 0."""
COSINE_LARGEST_BETA = 0.999
"""Keeps the last step of the cosine schedule invertible (same paper, section 3.2)."""

Time = TypeVar("Time", float, Tensor)


def linear_betas(timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """beta_t rises linearly (DDPM, section 4). Shape [T], float64."""
    return torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)


def cosine_betas(timesteps: int) -> Tensor:
    """beta_t = 1 - f(t + 1) / f(t), f(t) = cos^2((t/T + s) / (1 + s) * pi/2) (Nichol and Dhariwal, eq. 17). [T]."""
    t = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = torch.cos((t + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=COSINE_LARGEST_BETA)


def alphas_cumprod(schedule: ScheduleSpec) -> Tensor:
    """A_t for t = 0..T-1, float64. Raises ValueError for FlowMatching, which has no discrete steps."""
    match schedule.type:
        case "Linear":
            betas = linear_betas(schedule.timesteps, schedule.beta_start, schedule.beta_end)
        case "Cosine":
            betas = cosine_betas(schedule.timesteps)
        case "FlowMatching":
            raise ValueError("FlowMatching has no alphas_cumprod: its time is continuous")
    return (1 - betas).cumprod(0)


def shift_time(s: Time, shift: float) -> Time:
    """Spend more of the time at high noise: s' = a s / (1 + (a - 1) s), a = `shift` (SD3, eq. 23). 0 and 1 stay."""
    return shift * s / (1 + (shift - 1) * s)


def noise_schedule_hash(diffusion: DiffusionSpec) -> str:
    """`sha256:<hex>` of what the forward process and the target depend on: weights trained under one fit no other.

    Parameters that the schedule does not read are left out (betas of a cosine schedule, for one).
    """
    schedule = diffusion.schedule
    facts: dict[str, object] = {
        "type": schedule.type,
        "timesteps": schedule.timesteps,
        "prediction": diffusion.prediction,
    }
    match schedule.type:
        case "Linear":
            facts |= {"betaStart": schedule.beta_start, "betaEnd": schedule.beta_end}
        case "Cosine":
            facts |= {"offset": COSINE_OFFSET, "largestBeta": COSINE_LARGEST_BETA}
        case "FlowMatching":
            facts |= {"shift": schedule.shift}
    return sha256_of(json.dumps(facts, sort_keys=True).encode())
