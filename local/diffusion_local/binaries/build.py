"""Build programs with Go: into a temporary folder first, so that an interrupted build leaves nothing half done."""

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_local.binaries.recipe import Module, cache_home
from diffusion_local.binaries.toolchain import find_go
from diffusion_local.errors import LocalClusterError

Report = Callable[[str], None]
SHOWN_ERROR_LINES = 5
REPORT_SECONDS = 60.0


@contextmanager
def locked(module: Module, report: Report) -> Iterator[None]:
    """Hold the lock of `module`'s cache folder; a second builder waits here and then finds the first one's result."""
    cache_home().mkdir(parents=True, exist_ok=True)
    with (cache_home() / f"{module.folder}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is getting the programs of {module.folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(module: Module, programs: tuple[str, ...], report: Report) -> None:
    """Build `programs` of `module` into its cache folder; LocalClusterError says why it cannot be done here."""
    go = find_go(programs, report)
    report(f"building {', '.join(programs)} with Go: usually {module.minutes} minutes on 2 cores, done once")
    started = time.monotonic()
    target = module.cache_folder()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix=".building-") as folder:
        output = Path(folder)
        _run(module, module.command(go, output, programs), programs, report)
        for program in programs:
            (output / Module.built_name(module.tools[program])).replace(target / program)
    report(f"built {', '.join(programs)} in {time.monotonic() - started:.0f} s")


def _run(module: Module, command: list[str], programs: tuple[str, ...], report: Report) -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    started = time.monotonic()
    with subprocess.Popen(
        command, cwd=module.source, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while True:
            try:
                _, said = process.communicate(timeout=REPORT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                report(f"still building {', '.join(programs)}: {(time.monotonic() - started) / 60:.0f} min so far")
    if process.returncode:
        reason = " | ".join(said.strip().splitlines()[-SHOWN_ERROR_LINES:])
        raise LocalClusterError(f"could not build {', '.join(programs)} ({' '.join(command[:2])} said: {reason})")
