"""Two elastic torchrun agents on this machine, one of which is killed while they train."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PEER = Path(__file__).with_name("torchrun_peer.py")


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class TorchrunPair:
    """Agents `host` (its rendezvous store lives there) and `plain`, each with one DDP process."""

    folder: Path
    port: int = field(default_factory=free_port)
    agents: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Start both agents; the host comes first, so that it is the one that makes the store."""
        for name in ("host", "plain"):
            self.agents[name] = subprocess.Popen(
                self._command(name), env=self._environment(name), start_new_session=True
            )

    def _command(self, name: str) -> list[str]:
        return [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3"),
            *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{self.port}", "--rdzv-id=bench"),
            f"--rdzv-conf=is_host={int(name == 'host')},last_call_timeout=1,join_timeout=120",
            *(str(PEER), str(self.folder / "steps")),
        ]

    def _environment(self, name: str) -> dict[str, str]:
        return {**os.environ, "PEER_NAME": name, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"}

    def steps(self, name: str) -> list[dict[str, float]]:
        """Return what the agent's process has written: one entry for each optimizer step, oldest first."""
        log = self.folder / f"steps.{name}"
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def wait_for_steps(self, name: str, world: int, after: float, seconds: float, count: int = 1) -> float | None:
        """Return when the agent's process took its `count`-th step later than `after` in that world; None if never."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = [step["time"] for step in self.steps(name) if step["time"] > after and step["world"] == world]
            if len(found) >= count:
                return found[count - 1]
            if self.agents[name].poll() is not None:
                return None
            time.sleep(0.1)
        return None

    def kill(self, name: str) -> float:
        """Kill the agent and all its processes with SIGKILL, as the loss of a node does; returns when."""
        when = time.time()
        for pid in _descendants(self.agents[name].pid):
            os.kill(pid, signal.SIGKILL)
        return when

    def stop(self) -> None:
        """End everything that still runs."""
        for agent in self.agents.values():
            for pid in _descendants(agent.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            agent.wait(timeout=20)


def _descendants(pid: int) -> list[int]:
    """Return the process and all below it; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def survivor_recovery_seconds(folder: Path, victim: str, deadline_seconds: float = 120) -> float | None:
    """Kill one agent while both train; return the seconds until the survivor's next step, None when it never comes."""
    survivor = "plain" if victim == "host" else "host"
    pair = TorchrunPair(folder)
    pair.start()
    try:
        if pair.wait_for_steps(survivor, world=2, after=0, seconds=180, count=10) is None:
            raise RuntimeError("torchrun did not start training on two agents within 180 s")
        killed = pair.kill(victim)
        resumed = pair.wait_for_steps(survivor, world=1, after=killed, seconds=deadline_seconds)
        return None if resumed is None else resumed - killed
    finally:
        pair.stop()
