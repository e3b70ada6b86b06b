"""The six numbers carry a multistep solver as well: DPM-Solver++(2M) as a table, against diffusers.

No sampler of the product uses the history yet (coefficient c); this holds the form that later ones rely on.
"""

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from diffusion_core.samplers import advance_rows
from diffusion_core.schedules import alphas_cumprod
from tiny_models import EPSILON


def network(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(1.3 * x + torch.sin(t.view(-1, 1, 1, 1) / 90))


def multistep_table(timesteps: Tensor) -> Tensor:
    """Rows of (p, q, a, b, c, d) for Lu et al. (arXiv 2211.01095), algorithm 2; the first and last are first order.

    x' = (s'/s) x + a' (1 - e^-h) D,   D = (1 + 1/2r) x0 - 1/2r x0_before,   h = l' - l,   r = h_before / h
    with signal a, noise s and l = log(a / s), and a clean sample at the end.
    """
    kept = alphas_cumprod(EPSILON.schedule)[timesteps.long()]
    signal, noise = kept.sqrt(), (1 - kept).sqrt()
    levels = torch.log(signal / noise)
    rows, last = [], len(timesteps) - 1
    for n in range(len(timesteps)):
        p, q = 1 / signal[n], -noise[n] / signal[n]
        if n == last:
            rows.append(torch.stack([p, q, p * 0, p * 0 + 1, p * 0, p * 0]))
            continue
        h = levels[n + 1] - levels[n]
        weight = signal[n + 1] * (1 - torch.exp(-h))
        half = h / (2 * (levels[n] - levels[n - 1])) if n > 0 else h * 0
        rows.append(torch.stack([p, q, noise[n + 1] / noise[n], weight * (1 + half), -weight * half, p * 0]))
    return torch.stack(rows).float()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers' set_timesteps
@pytest.mark.parametrize("steps", [5, 20, 25])
def test_a_solver_with_history_is_that_of_diffusers(steps: int) -> None:
    scheduler = DPMSolverMultistepScheduler(timestep_spacing="leading", final_sigmas_type="zero")
    scheduler.set_timesteps(steps)
    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    theirs = ours = start
    for t in scheduler.timesteps:
        theirs = scheduler.step(network(theirs, t.float().expand(2)), t, theirs).prev_sample
    table, before = multistep_table(scheduler.timesteps), torch.zeros_like(start)
    for t, row in zip(scheduler.timesteps, table, strict=True):
        out = network(ours, t.float().expand(2))
        ours, before = advance_rows(ours, out, before, row.expand(2, 6), None, 1e9)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)
