"""How many CPU threads a process computes with. Torch would take all cores of the node, whatever the limit is."""

from collections.abc import Mapping

from diffusion_contract.quantity import quantity_value

MOST_THREADS = 1024
"""No machine has more cores, whatever a limit says."""


def threads(limits: Mapping[str, str], processes: int) -> int:
    """CPU threads for each of `processes`: their share of the CPU limit, 1 to MOST_THREADS, and one without a limit."""
    cores = quantity_value(limits.get("cpu")) or 1
    return max(1, int(min(cores / processes, MOST_THREADS)))
