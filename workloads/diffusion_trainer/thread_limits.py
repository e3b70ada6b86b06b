"""How many threads each trainer process may use. It must stand in the environment before Python starts.

Measured with two processes on two cores: 1.8 steps/s with torch.set_num_threads(1) alone, 7.2 with OMP_NUM_THREADS=1 in
the environment.
"""

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def thread_environment(environment: Mapping[str, str], processes: int, cpus: float) -> dict[str, str]:
    """The variables to set: as OMP_NUM_THREADS says where it is set, else the CPUs shared among the processes."""
    given = environment.get("OMP_NUM_THREADS", "")
    threads = given if given.isdigit() and int(given) > 0 else str(max(1, int(cpus / processes)))
    # Set already at the import of numpy, so that no thread pool starts in the process that is forked from.
    # Threads that wait sleep: with other work on the cores, spinning made steps ten times slower.
    return dict.fromkeys(VARIABLES, threads) | {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def cpu_limit(cpu_max: Path = _CPU_MAX) -> float:
    """CPUs that this container may use: its cgroup's limit, or those of the machine that it may run on."""
    available = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = cpu_max.read_text().split()
        return min(available, int(quota) / int(period))
    except (OSError, ValueError):
        return available  # No cgroup v2, or "max": no limit.
