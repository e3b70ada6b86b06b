"""Build programs with Go: into a temporary folder first, so that an interrupted build leaves nothing half done."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diffusion_local.binaries.recipe import CACHE_VARIABLE, Module, cache_home
from diffusion_local.binaries.toolchain import find_go
from diffusion_local.errors import LocalClusterError, make_folder
from diffusion_local.lifetimes import DIE_WITH_PARENT

Report = Callable[[str], None]
SHOWN_ERROR_LINES = 5
REPORT_SECONDS = 60.0


@contextmanager
def locked(module: Module, report: Report) -> Iterator[None]:
    """Hold the lock of `module`'s cache folder; a second builder waits here and then finds the first one's result."""
    make_folder(cache_home(), CACHE_VARIABLE)
    with (cache_home() / f"{module.folder}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is getting the programs of {module.folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in cache_home().glob(f"{_unfinished(module)}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        yield


def _unfinished(module: Module) -> str:
    """How the names of folders begin in which programs of `module` are being built; only the lock's holder has any."""
    return f".building-{module.folder}-"


def build(module: Module, programs: tuple[str, ...], report: Report) -> None:
    """Build `programs` of `module` into its cache folder; LocalClusterError says why it cannot be done here."""
    go = find_go(programs, report)
    report(f"building {', '.join(programs)} with Go: usually {module.minutes} minutes on 2 cores, done once")
    started = time.monotonic()
    target = module.cache_folder()
    target.mkdir(parents=True, exist_ok=True)
    prefix = _unfinished(module)
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix=prefix, ignore_cleanup_errors=True) as folder:
        output = Path(folder)
        _run(module, module.command(go, output, programs), programs, report)
        for program in programs:
            (output / Module.built_name(module.tools[program])).replace(target / program)
    report(f"built {', '.join(programs)} in {time.monotonic() - started:.0f} s")


def _run(module: Module, command: list[str], programs: tuple[str, ...], report: Report) -> None:
    settings = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    environment = os.environ | settings | {"HOME": str(_home())}
    with _in_its_own_group(command, module.source, environment) as process:
        said = _await(process, programs, report)
    if process.returncode:
        reason = " | ".join(said.strip().splitlines()[-SHOWN_ERROR_LINES:])
        raise LocalClusterError(f"could not build {', '.join(programs)} ({' '.join(command[:2])} said: {reason})")


def _home() -> Path:
    """Where Go may keep modules: the user's home folder, else the cache, where there is none that can be written to."""
    with suppress(RuntimeError):
        if os.access(home := Path.home(), os.W_OK):
            return home
    return cache_home()


@contextmanager
def _in_its_own_group(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run `command`, and end it with all compilers that it has started when the block fails or this process dies."""
    owned = DIE_WITH_PARENT if shutil.which(DIE_WITH_PARENT[0]) else ()
    process = subprocess.Popen(
        [*owned, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _await(process: subprocess.Popen[str], programs: tuple[str, ...], report: Report) -> str:
    """Wait for the end of a build and return what it said, with a report each minute."""
    started = time.monotonic()
    while True:
        try:
            return process.communicate(timeout=REPORT_SECONDS)[1]
        except subprocess.TimeoutExpired:
            report(f"still building {', '.join(programs)}: {(time.monotonic() - started) / 60:.0f} min so far")
