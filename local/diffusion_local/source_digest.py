"""Which code is it? What is already running may have been started from other files than lie here by now."""

import hashlib
from collections.abc import Sequence
from pathlib import Path


def source_digest(root: Path, packages: Sequence[str]) -> str:
    """Return 16 hex digits over the names and contents of every Python file of `packages` below `root`."""
    digest = hashlib.sha256()
    for file in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def own_code() -> str:
    """Return the digest of the package that a cluster's supervisor and nodes run."""
    package = Path(__file__).resolve().parent
    return source_digest(package.parent, [package.name])
