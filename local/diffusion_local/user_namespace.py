"""Become root of a new user namespace with every user of this machine in it, then run a command.

`unshare --map-root-user` knows its caller alone, so no process inside could ever be anybody else. The whole map can
only be written from outside, by root: a child that stays behind tries. For a plain user it fails, and the namespace has
one user. Standard library only, run as a file: `python user_namespace.py COMMAND...`.
"""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
MAPS = ("uid_map", "gid_map")


def copied_map(text: str) -> str:
    """From a map of this namespace, the one that gives a namespace below it the same ids."""
    ranges = (line.split() for line in text.splitlines())
    return "".join(f"{first} {first} {count}\n" for first, _, count in ranges)


def write_whole_maps(process: int, unshared: int) -> None:
    """Once `unshared` is closed, give the namespace of `process` all ids; OSError where only root may."""
    os.read(unshared, 1)
    for name in MAPS:
        Path(f"/proc/{process}/{name}").write_text(copied_map(Path(f"/proc/self/{name}").read_text()))


def write_own_maps(user: int, group: int) -> None:
    """Have the one who calls be root, and nobody else be there."""
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    for name, number in zip(MAPS, (user, group), strict=True):
        (own / name).write_text(f"0 {number} 1\n")


def enter_user_namespace() -> None:
    """Make the namespace and be root in it."""
    user, group, own = os.geteuid(), os.getegid(), os.getpid()
    inside, outside = os.pipe()
    mapper = os.fork()
    if mapper == 0:
        os.close(outside)
        try:
            write_whole_maps(own, inside)
        except OSError:
            os._exit(1)
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.unshare(CLONE_NEWUSER) != 0 and ctypes.get_errno()
    os.close(outside)
    os.close(inside)
    _, status = os.waitpid(mapper, 0)
    if failed:
        raise OSError(failed, os.strerror(failed))
    if status != 0:
        write_own_maps(user, group)


def main() -> None:
    """Run the arguments as root of a new user namespace; what prevents it is one line, and exit code 1."""
    command = sys.argv[1:]
    try:
        enter_user_namespace()
    except OSError as error:
        sys.exit(f"user namespace: {error.strerror}")
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
