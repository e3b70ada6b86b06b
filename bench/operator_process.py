"""The operator as a process of this machine, with its ports on loopback, for a cluster whose nodes run no pods."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.torchrun_runs import free_port
from diffusion_local.cluster import Cluster

START_SECONDS = 90.0


@dataclass(frozen=True)
class OperatorProcess:
    """A running operator."""

    pid: int
    health_port: int
    metrics_port: int

    def leads(self) -> bool:
        """Whether it is the leader and has heard of everything."""
        try:
            return _get(f"http://127.0.0.1:{self.health_port}/readyz") == "leader\n"
        except (urllib.error.URLError, OSError):
            return False

    def metrics(self) -> str:
        """What its metrics port says."""
        return _get(f"http://127.0.0.1:{self.metrics_port}/metrics")

    def cpu_seconds(self) -> float:
        """User and system seconds so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def peak_memory(self) -> int:
        """The most bytes that it has had resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@contextlib.contextmanager
def running_operator(cluster: Cluster, namespace: str) -> Iterator[OperatorProcess]:
    """Start an operator that lives in `namespace`, and wait until it leads; it is ended with the block."""
    health, metrics, agents = free_port(), free_port(), free_port()
    options = {
        "namespace": namespace,
        "kubeconfig": str(cluster.kubeconfig),
        "listen-host": "127.0.0.1",
        "health-port": str(health),
        "metrics-port": str(metrics),
        "agent-port": str(agents),
        "agent-url": f"https://localhost:{agents}",
    }
    command = [sys.executable, "-m", "diffusion_operator.cli.operator_command", "run", "--metrics-plain"]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DIFFUSION_", "POD_"))}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        operator = OperatorProcess(process.pid, health, metrics)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not operator.leads():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"the operator does not lead: {log.read()[-2000:].decode()}")
                time.sleep(0.2)
            yield operator
        finally:
            process.terminate()
            process.wait(20)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text
