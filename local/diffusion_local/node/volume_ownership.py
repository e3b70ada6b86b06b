"""The group that owns a pod's volumes (`fsGroup`), as a kubelet sets it."""

import contextlib
import os
import stat
from pathlib import Path

FOLDER_BITS = stat.S_ISGID | 0o770
FILE_BITS = 0o660
READ_ONLY_BITS = 0o440


def give(path: Path, group: int, bits: int) -> None:
    """Have the group own one file, folder or link, with at least the permissions `bits`."""
    mode = path.lstat().st_mode
    os.chown(path, -1, group, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        path.chmod(stat.S_IMODE(mode) | bits)


def give_whole(volume: Path, group: int, file_bits: int = FILE_BITS) -> None:
    """Have the group own a volume and all that lies in it, but for what another pod takes away meanwhile."""
    for folder, folders, files in os.walk(volume):
        for names, bits in ((folders, FOLDER_BITS), (files, file_bits)):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    give(Path(folder, name), group, bits)
    give(volume, group, FOLDER_BITS)


def is_given(volume: Path, group: int) -> bool:
    """Whether the volume's own folder is the group's already, which `fsGroupChangePolicy: OnRootMismatch` asks."""
    found = volume.stat()
    return found.st_gid == group and found.st_mode & FOLDER_BITS == FOLDER_BITS
