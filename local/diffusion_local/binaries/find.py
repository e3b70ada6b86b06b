"""Find each program: $KUBEBUILDER_ASSETS, the cache, a pinned download, and at last a build."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from diffusion_local.binaries import build, download
from diffusion_local.binaries.recipe import Module, module_of

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
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
    assets = os.environ.get(ASSETS_VARIABLE)
    if assets and os.access(given := Path(assets) / program, os.X_OK):
        return given
    cached = module_of(program).cache_folder() / program
    return cached if os.access(cached, os.X_OK) else None


def _missing(wanted: Iterable[str], found: dict[str, Path]) -> dict[Module, list[str]]:
    missing: dict[Module, list[str]] = {}
    for name in wanted:
        if name not in found:
            missing.setdefault(module_of(name), []).append(name)
    return missing
