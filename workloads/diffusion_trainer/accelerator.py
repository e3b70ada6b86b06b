"""Which device a trainer process computes on. A pod that was given GPUs never trains on its CPUs without a word."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from diffusion_trainer.refusal import ConfigurationRefused

_DEVICES = Path("/dev")
_NO_DEVICE = ("", "void", "none", "NoDevFiles", "-1")


class AcceleratorUnusable(Exception):
    """The pod was given GPUs, and the process can use none: a fault of the node or its driver, a crash that counts."""


class ForkPoisoned(Exception):
    """CUDA was touched before this process was forked: no process of this image can use a GPU. Exit code 93."""


def given_devices(environment: Mapping[str, str], devices: Path = _DEVICES) -> list[str]:
    """The GPUs that the container was given; none where CUDA_VISIBLE_DEVICES hides them.

    They are known by their device files, or else by the UUIDs that a device plugin has put into the environment: it has
    those also where the container runtime then failed to bring the devices in. (`all` is what CUDA's images say.)
    """
    if environment.get("CUDA_VISIBLE_DEVICES") in _NO_DEVICE:
        return []
    named = environment.get("NVIDIA_VISIBLE_DEVICES", "").split(",")
    files = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    return files or [name for name in named if name.startswith(("GPU-", "MIG-"))]


def choose_device(local_rank: int, given: list[str] | None = None) -> torch.device:
    """The device of this process: its own GPU where the pod has some, on which CUDA is started here, else the CPU.

    Raises ForkPoisoned or AcceleratorUnusable where the pod has GPUs that cannot be used, and ConfigurationRefused
    where it has fewer than processes.

    `torch.cuda.is_available` is not asked: it may ask NVML, which answers by itself in a process that was forked, and
    differently from one time to the next. What was decided here is `torch.cuda.is_initialized` from now on.
    """
    given = given_devices(os.environ) if given is None else given
    if given and torch.cuda._is_in_bad_fork():
        raise ForkPoisoned(
            f"CUDA was initialised before the trainer was forked, so {', '.join(given)} cannot be used: an import in "
            "this image touches the GPU; report this with the versions of torch and diffusers"
        )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # No driver or GPU; a build of torch that knows none.
        if given:
            raise AcceleratorUnusable(
                f"this pod has {', '.join(given)}, but torch {torch.__version__} can use no GPU ({error}): check the "
                "node's driver and the pod's runtimeClassName, or set CUDA_VISIBLE_DEVICES to an empty value to train "
                "on CPUs"
            ) from error
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigurationRefused(
            "spec.workers.processesPerWorker",
            f"process {local_rank} has no GPU of its own, the pod has {torch.cuda.device_count()}: "
            "ask for as many GPUs in spec.workers.resources as there are processes",
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def name_device(device: torch.device) -> str:
    """For the log: `cpu`, or a GPU with its model, such as `cuda:0 (NVIDIA H100 80GB HBM3)`."""
    return str(device) if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"
