"""Files that a pod reads while they change: the whole set is swapped at once, by renaming one symbolic link.

The layout is the kubelet's: `..data` leads to a folder of one version, `NAME` leads to `..data/NAME`.
"""

import shutil
import tempfile
from pathlib import Path

from diffusion_local.node.payloads import File, Payload
from diffusion_local.node.volume_ownership import READ_ONLY_BITS, give_whole

DATA = "..data"


def written(directory: Path) -> Payload:
    """What the directory holds now."""
    data = directory / DATA
    if not data.exists():
        return {}
    root = data.resolve()
    return {
        str(path.relative_to(root)): File(path.read_bytes(), path.stat().st_mode & 0o777)
        for path in root.rglob("*")
        if path.is_file()
    }


def write_payload(directory: Path, payload: Payload, group: int | None = None) -> bool:
    """Make the directory hold exactly `payload`, owned by `group`; False when it did already.

    Readers see the old set or the new one.
    """
    if group is not None:
        payload = {name: File(file.content, file.mode | READ_ONLY_BITS) for name, file in payload.items()}
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / DATA).exists() and written(directory) == payload:
        return False
    version = Path(tempfile.mkdtemp(prefix="..version-", dir=directory))
    try:
        fill(version, payload, group)
    except OSError:  # a full disk: what would be left of each attempt would keep it full
        shutil.rmtree(version, ignore_errors=True)
        raise
    swap(directory, version)
    tops = {Path(name).parts[0] for name in payload}
    for top in tops:
        if not (directory / top).is_symlink():
            (directory / top).symlink_to(f"{DATA}/{top}")
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in tops:
            entry.unlink()
    return True


def fill(version: Path, payload: Payload, group: int | None) -> None:
    """Write the files of one version."""
    version.chmod(0o755)
    for name, file in payload.items():
        path = version / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    if group is not None:
        give_whole(version, group, READ_ONLY_BITS)


def swap(directory: Path, version: Path) -> None:
    """Point `..data` at the new version and drop the old one."""
    old = (directory / DATA).resolve() if (directory / DATA).is_symlink() else None
    link = directory / "..data_new"
    link.symlink_to(version.name)
    link.rename(directory / DATA)
    if old is not None and old != version:
        shutil.rmtree(old, ignore_errors=True)
