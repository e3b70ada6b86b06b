"""Which device a trainer process computes on: one GPU for each process, where the pod was given some."""

import os

import torch

from diffusion_core.accelerator import given_devices, start_cuda
from diffusion_trainer.refusal import ConfigurationRefused


class ForkPoisoned(Exception):
    """CUDA was touched before this process was forked: no process of this image can use a GPU. Exit code 93."""


def choose_device(local_rank: int, given: list[str] | None = None) -> torch.device:
    """The device of this process: its own GPU where the pod has some, on which CUDA is started here, else the CPU.

    Raises ForkPoisoned or AcceleratorUnusable where the pod has GPUs that cannot be used, and ConfigurationRefused
    where it has fewer than processes.
    """
    given = given_devices(os.environ) if given is None else given
    if given and torch.cuda._is_in_bad_fork():
        raise ForkPoisoned(
            f"CUDA was initialised before the trainer was forked, so {', '.join(given)} cannot be used: an import in "
            "this image touches the GPU; report this with the versions of torch and diffusers"
        )
    count = start_cuda(given)
    if count == 0:
        return torch.device("cpu")
    if local_rank >= count:
        raise ConfigurationRefused(
            "spec.workers.processesPerWorker",
            f"process {local_rank} has no GPU of its own, the pod has {count}: "
            "ask for as many GPUs in spec.workers.resources as there are processes",
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device
