"""Which code is running, for checkpoints and model versions: the distribution's version and a digest of the sources."""

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffusion_contract.checkpoint_manifest import CodeVersion

_PACKAGES = ("diffusion_trainer", "diffusion_core")


@functools.cache
def code_version() -> CodeVersion:
    """The installed version, and the sha256 over the names and contents of the trainer's and the core's sources."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return CodeVersion(version=distribution_version(), digest=f"sha256:{digest.hexdigest()}")


def distribution_version() -> str:
    """The version of the installed distribution; 0 where the sources run without being installed."""
    try:
        return version("diffusion-operator")
    except PackageNotFoundError:
        return "0"
