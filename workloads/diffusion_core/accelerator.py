"""The GPUs that a container was given. A process that was given some never computes on its CPUs without a word."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

_DEVICES = Path("/dev")
_NO_DEVICE = ("", "void", "none", "NoDevFiles", "-1")


class AcceleratorUnusable(Exception):
    """The pod was given GPUs, and this process can use none: a fault of the node or its driver, not of the spec."""


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


def start_cuda(given: Sequence[str]) -> int:
    """Start CUDA in this process; returns how many GPUs it can use, 0 where it can use none and was given none.

    Raises AcceleratorUnusable where it was `given` some and can use none.

    `torch.cuda.is_available` is not asked: it may ask NVML, which answers by itself in a process that was forked, and
    differently from one time to the next. What was decided here is `torch.cuda.is_initialized` from now on.
    """
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # No driver or GPU; a build of torch that knows none.
        if given:
            raise AcceleratorUnusable(
                f"this pod has {', '.join(given)}, but torch {torch.__version__} can use no GPU ({error}): check the "
                "node's driver and the pod's runtimeClassName, or set CUDA_VISIBLE_DEVICES to an empty value to "
                "compute on CPUs"
            ) from error
        return 0
    return torch.cuda.device_count()


def name_device(device: torch.device) -> str:
    """For the log: `cpu`, or a GPU with its model, such as `cuda:0 (NVIDIA H100 80GB HBM3)`."""
    return str(device) if device.type == "cpu" else f"{device} ({torch.cuda.get_device_name(device)})"
