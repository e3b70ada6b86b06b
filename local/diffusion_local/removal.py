"""Remove a folder with all in it, whatever pods have made of it."""

import os
import shutil
import stat
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Remove `folder` if it is there; also what lies in folders that are closed to their owner (`chmod 0`)."""
    for place, names, _ in os.walk(folder):  # a folder is opened before the walk comes to it
        for name in names:
            if not (path := Path(place, name)).is_symlink():
                path.chmod(stat.S_IRWXU)
    if folder.exists():
        shutil.rmtree(folder)
