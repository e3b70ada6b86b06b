"""Volumes that one node alone may use at a time, as a disk of a cloud is attached to one machine.

Nodes of the embedded cluster share a machine, so a lock on a file beside the volume's folder stands for the attachment:
the kernel lets go of it when a node dies.
"""

import fcntl
import os
from pathlib import Path

from diffusion_local.node.configuration import Manifest

SHARED_MODES = {"ReadWriteMany", "ReadOnlyMany"}
SUFFIX = ".attached"


class AttachedElsewhere(Exception):
    """Another node has the volume."""


def is_exclusive(volume: Manifest) -> bool:
    """Whether a PersistentVolume is for one node at a time."""
    return not SHARED_MODES & set(volume["spec"].get("accessModes") or [])


def lock_file(folder: Path) -> Path:
    """The file whose lock is the attachment of the volume that lies in `folder`."""
    return folder.with_name(folder.name + SUFFIX)


class Attachments:
    """The volumes that this node has, and for which of its pods."""

    def __init__(self) -> None:
        self.descriptors: dict[Path, int] = {}
        self.users: dict[Path, set[str]] = {}

    def attach(self, folder: Path, user: str) -> None:
        """Have the volume for `user` (a pod's uid) until `release`; AttachedElsewhere while another node has it."""
        if folder not in self.descriptors:
            self.descriptors[folder] = locked(lock_file(folder))
        self.users.setdefault(folder, set()).add(user)

    def release(self, user: str) -> None:
        """Give up what nobody else on this node uses."""
        for folder, users in list(self.users.items()):
            users.discard(user)
            if not users:
                del self.users[folder]
                os.close(self.descriptors.pop(folder))


def locked(file: Path) -> int:
    """A descriptor that holds the lock of a file; AttachedElsewhere where somebody has it."""
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AttachedElsewhere from None
    return descriptor
