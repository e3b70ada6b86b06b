"""Mounting, by the system calls themselves: standard library only, for code that runs before a container's command."""

import ctypes
import os

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 32, 4096, 16384
MS_PRIVATE, MNT_DETACH = 1 << 18, 2
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
SYS_PIVOT_ROOT, SYS_MOUNT_SETATTR = {"x86_64": (155, 442)}.get(os.uname().machine, (41, 442))

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """Turn a libc failure into an OSError that says what was being done."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, or bind a folder."""
    arguments = source.encode(), target.encode(), kind.encode(), flags, options.encode()
    checked(libc.mount(*arguments), f"mount {source} at {target}")


def unmount(target: str) -> None:
    """Take a mount and everything below it away; whoever still uses it keeps it until then."""
    checked(libc.umount2(target.encode(), MNT_DETACH), f"let go of {target}")


def pivot_root(old: str) -> None:
    """Make the working directory the root; the root so far appears at `old` below it."""
    checked(libc.syscall(SYS_PIVOT_ROOT, b".", old.encode()), "pivot_root")


def make_read_only(target: str, below: bool = True) -> None:
    """Set a mount read-only, with everything mounted `below` it, keeping the flags that a user namespace locks."""

    class Attributes(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]

    wanted = Attributes(MOUNT_ATTR_RDONLY, 0, 0, 0)
    path, size = ctypes.c_char_p(target.encode()), ctypes.c_size_t(ctypes.sizeof(wanted))
    result = libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE if below else 0, ctypes.byref(wanted), size)
    checked(result, f"make {target} read-only")


def bind(source: str, target: str, read_only: bool = False) -> None:
    """Show `source`, with all that is mounted below it, at `target`, which exists."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)
