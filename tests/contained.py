"""Real containers without a cluster: a test describes one, and a child in namespaces of its own runs it.

`contained` is for tests; the module itself runs inside (`python contained.py ORDER`), where it may mount.
"""

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffusion_local.launch import UNSHARE
from diffusion_local.node.container_process import ContainerProcess
from diffusion_local.node.identity import identity, mapped_ids
from diffusion_local.node.launch_plan import Bind, base_environment, launch_spec
from diffusion_local.node.machine_files import Image
from diffusion_local.node.probing import Target, ask

SECONDS = 60.0


@dataclass
class Order:
    """A container, its mounts as source -> target, and commands to be run inside it while it runs."""

    folder: str
    container: dict[str, Any]
    mounts: dict[str, str] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    patience: float = SECONDS
    """Seconds that a command may take."""
    stop: bool = False
    """Send SIGTERM when the commands are done."""


@dataclass
class Outcome:
    """How the container ended, what it wrote, and the answers to the commands."""

    exit_code: int
    log: list[str]
    answers: list[dict[str, Any]]
    peak: int
    """Bytes of its largest process."""
    inherited_peak: int
    seconds: float


def contained(order: Order) -> Outcome:
    """Run a container to its end; AssertionError with everything that was said when it cannot be run."""
    file = Path(order.folder) / "order.json"
    file.write_text(json.dumps(asdict(order)))
    done = subprocess.run(
        [*UNSHARE, sys.executable, __file__, str(file)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return Outcome(**found)


def described(order: Order) -> dict[str, Any]:
    """The launcher's file for an order."""
    root = Path(order.folder) / "root"
    root.mkdir()
    pod = {"metadata": {"name": "contained", "namespace": "default"}, "spec": {}}
    binds = [Bind(Path(source), target) for source, target in order.mounts.items()]
    variables = base_environment("contained", "/root")
    whom = identity(pod, order.container, Image(), mapped_ids())
    return launch_spec(pod, order.container, root, binds, order.container["command"], variables, whom)


async def run(order: Order) -> Outcome:
    """Start it, run the commands, wait for the end."""
    log = Path(order.folder) / "log"
    process = ContainerProcess(described(order), Path(order.folder), log)
    await process.start()
    target = Target(order.container, "127.0.0.1", process.pid, process.spec)
    questions = [{"exec": {"command": command}} for command in order.commands]
    answers = [asdict(await ask(question, target, order.patience)) for question in questions]
    if order.stop:
        process.signal(signal.SIGTERM)
    exit_code = await process.finished()
    lines = [line.split(" ", 3)[3] for line in log.read_text().splitlines()]
    return Outcome(exit_code, lines, answers, process.peak, process.inherited_peak, process.seconds)


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(Order(**json.loads(Path(sys.argv[1]).read_text())))))))
