"""Find each program: $KUBEBUILDER_ASSETS, the cache, a pinned download, and at last a build."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from diffusion_local.binaries import build, download
from diffusion_local.binaries.recipe import Module, module_of

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
SAME_VERSION = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
Report = Callable[[str], None]


def ensure(programs: Iterable[str], report: Report) -> dict[str, Path]:
    """Return the path of each of `programs`, made available if need be; `report` hears what takes time.

    Raises LocalClusterError when a program is nowhere and cannot be built here.
    """
    wanted = list(programs)
    found = {name: path for name in wanted if (path := present(name))}
    for module, names in _missing(wanted, found).items():
        with build.locked(module, report):
            rest = [name for name in names if not present(name)]
            rest = [name for name in rest if not download.fetch(name, module.cache_folder(), report)]
            if rest:
                build.build(module, tuple(rest), report)
        found |= {name: module.cache_folder() / name for name in names}
    return found


def present(program: str) -> Path | None:
    """Return where `program` already lies: in $KUBEBUILDER_ASSETS or in the cache."""
    if (given := _given(program)) is not None:
        return given
    cached = module_of(program).cache_folder() / program
    return cached if os.access(cached, os.X_OK) else None


def _given(program: str) -> Path | None:
    """The program in $KUBEBUILDER_ASSETS; the three of the control plane are taken from there together or not at all.

    They must be of one version, and the archives that controller-runtime's tools fetch hold the API server only.
    """
    named = os.environ.get(ASSETS_VARIABLE)
    if not named:
        return None
    folder = Path(named).absolute()  # the programs are started from other folders than this one
    needed = SAME_VERSION if program in SAME_VERSION else (program,)
    whole = all(os.access(folder / name, os.X_OK) for name in needed)
    return folder / program if whole else None


def _missing(wanted: Iterable[str], found: dict[str, Path]) -> dict[Module, list[str]]:
    missing: dict[Module, list[str]] = {}
    for name in wanted:
        if name not in found:
            missing.setdefault(module_of(name), []).append(name)
    return missing
