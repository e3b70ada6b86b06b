"""The learning rate as a pure function of the step, so that resuming needs no state."""

import math

from diffusion_contract.run_config import TrainingSpec


def learning_rate(step: int, training: TrainingSpec, target: int) -> float:
    """The rate of optimizer step `step` (from 0): linear warm-up, then constant or a half cosine to zero at `target`.

    The target is that of the group, not the one in `training`, which ranks may have read at different times.

    Cosine: Loshchilov and Hutter, arXiv 1608.03983, equation 5 without restarts.
    """
    schedule, peak = training.learning_rate_schedule, training.optimizer.learning_rate
    if step < schedule.warmup_steps:
        return peak * (step + 1) / (schedule.warmup_steps + 1)
    if schedule.type == "Constant":
        return peak
    span = max(1, target - schedule.warmup_steps)
    done = min(1.0, (step - schedule.warmup_steps) / span)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
