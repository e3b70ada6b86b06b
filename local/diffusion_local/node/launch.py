"""The last steps before a container's command: a file system of its own, a host name, an identity, then `exec`.

Runs as process 1 of a fresh PID namespace, under a bare interpreter (`python -I -S launch.py SPEC`),
so it imports the standard library only and keeps no state. SPEC is the JSON file that `launch_plan` writes. What goes
wrong is written to the descriptor `statusFd`, which `exec` closes: silence means that the command runs.

The root is a tmpfs: the machine's programs are bound into it read-only, `/etc` is a folder of links into the machine's
own, `/dev` holds the harmless devices and the GPUs, `/tmp`, `/var`, `/run` and `/root` are fresh and empty.
"""

import ctypes
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 32, 4096, 16384
MS_PRIVATE, CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 1 << 18, 0x00020000, 0x04000000, 0x08000000
MNT_DETACH, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 2, -100, 0x8000, 1
SYS_PIVOT_ROOT, SYS_MOUNT_SETATTR = {"x86_64": (155, 442)}.get(os.uname().machine, (41, 442))
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, LAST_CAPABILITY = 1, 38, 24, 63
PROGRAM_FOLDERS = ("usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "sys")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "dri", "kfd")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
HOST_ETC = "/.host-etc"
OLD_ROOT = "/.host"

libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """The command cannot be started; the message is what the container's status shows."""


def checked(result: int, what: str) -> None:
    """Turn a libc failure into an OSError that says what was being done."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, or bind a folder."""
    arguments = source.encode(), target.encode(), kind.encode(), flags, options.encode()
    checked(libc.mount(*arguments), f"mount {source} at {target}")


def make_read_only(target: str) -> None:
    """Set a mount and everything mounted below it read-only, keeping the flags that a user namespace locks."""

    class Attributes(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]

    wanted = Attributes(MOUNT_ATTR_RDONLY, 0, 0, 0)
    path, size = ctypes.c_char_p(target.encode()), ctypes.c_size_t(ctypes.sizeof(wanted))
    result = libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE, ctypes.byref(wanted), size)
    checked(result, f"make {target} read-only")


def bind(source: str, target: str, read_only: bool = False) -> None:
    """Show `source`, with all that is mounted below it, at `target`, which exists."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if read_only:
        make_read_only(target)


def link_folder(source: Path, target: Path) -> None:
    """Make `target` a folder with one link for each entry of `source`."""
    target.mkdir()
    for entry in source.iterdir():
        (target / entry.name).symlink_to(source / entry.name)


def make_mount_point(path: Path, is_file: bool) -> None:
    """Create the file or folder that something is mounted over, opening up linked folders of the machine on the way."""
    for ancestor in [*reversed(path.parents), path]:
        if ancestor.is_symlink() and str(ancestor.readlink()).startswith(HOST_ETC):
            inside = ancestor.readlink()
            ancestor.unlink()
            if inside.is_dir():
                link_folder(inside, ancestor)
    if is_file:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    else:
        path.mkdir(parents=True, exist_ok=True)


def copy_machine(new: Path) -> None:
    """Show the machine's programs and devices in the new root, which is not yet the root."""
    for entry in Path("/").iterdir():
        copy = new / entry.name
        if entry.is_symlink():
            copy.symlink_to(entry.readlink())
        elif entry.name in PROGRAM_FOLDERS and entry.is_dir():
            copy.mkdir()
            bind(str(entry), str(copy), read_only=entry.name != "sys")
    for name in (
        "proc",
        "dev",
        "etc",
        "tmp",
        "run",
        "root",
        "var",
        "var/tmp",
        "var/lib",
        "var/log",
        "var/cache",
        OLD_ROOT[1:],
    ):
        (new / name).mkdir(exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (new / name).chmod(0o1777)
    (new / "var/run").symlink_to("/run")
    devices = [*DEVICES, *(entry.name for entry in Path("/dev").glob("nvidia*"))]
    for name in devices:
        source = Path("/dev") / name
        if source.exists():
            make_mount_point(new / "dev" / name, not source.is_dir())
            bind(str(source), str(new / "dev" / name))
    for name, target in DEVICE_LINKS.items():
        (new / "dev" / name).symlink_to(target)
    (new / "dev/shm").mkdir()
    mount("shm", str(new / "dev/shm"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def mount_proc(new: Path) -> None:
    """A process table of this container's own; the node's where the kernel refuses (a /proc that is masked)."""
    try:
        mount("proc", str(new / "proc"), "proc")
    except OSError:
        bind("/proc", str(new / "proc"))


def show_programs(programs: list[str]) -> None:
    """Bind the folders that hold our programs to where they are on the machine, unless they are seen there already."""
    for path in programs:
        if not Path(path).exists():
            make_mount_point(Path(path), is_file=False)
            bind(OLD_ROOT + path, path, read_only=True)


def enter_root(spec: dict[str, Any]) -> None:
    """Build the container's root, move into it, bind the volumes, and let go of the machine's root."""
    new = Path(spec["root"])
    mount("root", str(new), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    copy_machine(new)
    mount_proc(new)
    sources = {bound["source"]: os.path.realpath(bound["source"]) for bound in spec["binds"]}
    programs = sorted({os.path.realpath(path) for path in spec["programs"]}, key=len)
    os.chdir(new)
    checked(libc.syscall(SYS_PIVOT_ROOT, b".", OLD_ROOT[1:].encode()), "pivot_root")
    os.chdir("/")
    Path(HOST_ETC).mkdir()
    bind(OLD_ROOT + "/etc", HOST_ETC, read_only=True)
    Path("/etc").rmdir()
    link_folder(Path(HOST_ETC), Path("/etc"))
    show_programs(programs)
    for bound in spec["binds"]:
        source, target = OLD_ROOT + sources[bound["source"]], Path(bound["target"])
        make_mount_point(target, not Path(source).is_dir())
        bind(source, str(target), bound["readOnly"])
    show_programs(programs)  # A volume may have covered them: an emptyDir at /tmp covers a checkout in /tmp.
    checked(libc.umount2(OLD_ROOT.encode(), MNT_DETACH), "let go of the machine's root")
    Path(OLD_ROOT).rmdir()


def become(spec: dict[str, Any]) -> None:
    """Take the user, groups and capabilities of the container."""
    if spec["dropCapabilities"]:
        for capability in range(LAST_CAPABILITY + 1):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if spec["groups"] is not None:
        os.setgroups(spec["groups"])
    if spec["gid"] is not None:
        os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    if spec["uid"] is not None:
        os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    if spec["noNewPrivileges"]:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def program_path(name: str, search: str) -> str:
    """The file that `name` stands for, looked up in `search` as execvp does."""
    candidates = [name] if "/" in name else [f"{folder}/{name}" for folder in search.split(":")]
    found = [path for path in candidates if os.access(path, os.X_OK) and stat.S_ISREG(Path(path).stat().st_mode)]
    if found:
        return found[0]
    if "/" in name:
        reason = "permission denied" if Path(name).exists() else "no such file or directory"
        raise StartError(f'exec: "{name}": stat {name}: {reason}')
    raise StartError(f'exec: "{name}": executable file not found in $PATH')


def start(spec: dict[str, Any]) -> None:
    """Do all of it; returns only by an exception."""
    os.setsid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for network in spec["networkFds"]:
        checked(libc.setns(network, CLONE_NEWNET), "the pod's network")
        os.close(network)
    checked(libc.unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC), "namespaces of its own")
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    os.umask(0o022)
    hostname = spec["hostname"].encode()
    checked(libc.sethostname(hostname, len(hostname)), "sethostname")
    enter_root(spec)
    working = Path(spec["workingDirectory"])
    working.mkdir(parents=True, exist_ok=True)
    if spec["readOnlyRoot"]:
        mount("", "/", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    become(spec)
    os.chdir(working)
    argv, environment = spec["argv"], spec["environment"]
    os.execve(program_path(argv[0], environment.get("PATH", "")), argv, environment)  # noqa: S606


def main() -> None:
    """Start the container described by the file in the first argument; on failure say why and exit 128."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    os.set_inheritable(spec["statusFd"], False)
    try:
        start(spec)
    except (OSError, StartError) as error:
        os.write(spec["statusFd"], str(error).encode())
    os._exit(128)


if __name__ == "__main__":
    main()
