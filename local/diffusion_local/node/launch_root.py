"""The root file system of a container, built by the container's own first process. Standard library only.

The root is a tmpfs: the machine's programs are bound into it read-only, `/etc` is a folder of links into the machine's
own, `/dev` holds the harmless devices only (a node's GPUs are pretended: nobody may take the machine's for those that
a pod was given), `/tmp`, `/var`, `/run` and `/root` are fresh and empty.
"""

import os
from pathlib import Path
from typing import Any

from diffusion_local.node.mounts import (
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REMOUNT,
    bind,
    make_read_only,
    mount,
    pivot_root,
    unmount,
)

PROGRAM_FOLDERS = ("usr", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "sys")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
HOST_ETC = "/.host-etc"
OLD_ROOT = "/.host"
STAGE = "/.stage"


def link_folder(source: Path, target: Path) -> None:
    """Make `target` a folder with one link for each entry of `source`."""
    target.mkdir()
    for entry in source.iterdir():
        (target / entry.name).symlink_to(source / entry.name)


def is_read_only(path: Path) -> bool:
    """Whether nothing can be created there."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def open_up(folder: Path) -> None:
    """Make a read-only folder one of this container's own, with every entry (and what is mounted there) bound in.

    So a volume can be mounted at /opt/models or /usr/share/nginx/html where the machine has no such folder.
    """
    stage = Path(STAGE)
    stage.mkdir()
    bind(str(folder), STAGE)
    mount("opened", str(folder), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for entry in stage.iterdir():
        shown = folder / entry.name
        if entry.is_symlink():
            shown.symlink_to(entry.readlink())
            continue
        if entry.is_dir():
            shown.mkdir()
        else:
            shown.touch()
        bind(str(entry), str(shown))
    unmount(STAGE)
    stage.rmdir()


def make_mount_point(path: Path, is_file: bool) -> list[Path]:
    """Create the file or folder that something is mounted over, opening up folders of the machine on the way.

    Returns those that were read-only and are a tmpfs now: the caller makes them read-only again in the end.
    """
    opened = []
    for place in [*reversed(path.parents), path]:
        if place.is_symlink() and str(place.readlink()).startswith(HOST_ETC):
            inside = place.readlink()
            place.unlink()
            if inside.is_dir():
                link_folder(inside, place)
        if place.exists():
            continue
        parent = Path(os.path.realpath(place.parent))
        if is_read_only(parent):
            open_up(parent)
            opened.append(parent)
        if is_file and place == path:
            place.touch()
        else:
            place.mkdir()
    return opened


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
    copy_devices(Path("/dev"), new / "dev")
    (new / "dev/shm").mkdir()
    mount("shm", str(new / "dev/shm"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def copy_devices(machine: Path, shown: Path) -> None:
    """Bind the harmless ones of the machine's devices into a folder, and no GPU."""
    for name in DEVICES:
        if (machine / name).exists():
            make_mount_point(shown / name, is_file=True)
            bind(str(machine / name), str(shown / name))
    for name, target in DEVICE_LINKS.items():
        (shown / name).symlink_to(target)


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


def mount_volumes(spec: dict[str, Any], sources: dict[str, str]) -> None:
    """Bind each volume at its place, outer ones first, and have the working directory exist."""
    opened: list[Path] = []
    for bound in spec["binds"]:
        source, target = OLD_ROOT + sources[bound["source"]], Path(bound["target"])
        opened += make_mount_point(target, not Path(source).is_dir())
        bind(source, str(target), bound["readOnly"])
    working = Path(spec["workingDirectory"])
    if not working.exists():
        opened += make_mount_point(working, is_file=False)
        if not spec["readOnlyRoot"] and any(working.is_relative_to(folder) for folder in opened):
            mount("working", str(working), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")  # stays writable
    for folder in opened:
        make_read_only(str(folder), below=False)


def enter_root(spec: dict[str, Any]) -> None:
    """Build the container's root, move into it, bind the volumes, and let go of the machine's root."""
    new = Path(spec["root"])
    mount("root", str(new), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    copy_machine(new)
    mount_proc(new)
    sources = {bound["source"]: os.path.realpath(bound["source"]) for bound in spec["binds"]}
    programs = sorted({os.path.realpath(path) for path in spec["programs"]}, key=len)
    os.chdir(new)
    pivot_root(OLD_ROOT[1:])
    os.chdir("/")
    Path(HOST_ETC).mkdir()
    bind(OLD_ROOT + "/etc", HOST_ETC, read_only=True)
    Path("/etc").rmdir()
    link_folder(Path(HOST_ETC), Path("/etc"))
    for name, text in spec["etc"].items():
        (Path("/etc") / name).unlink(missing_ok=True)
        (Path("/etc") / name).write_text(text)
    show_programs(programs)
    mount_volumes(spec, sources)
    show_programs(programs)  # A volume may have covered them: an emptyDir at /tmp covers a checkout in /tmp.
    unmount(OLD_ROOT)
    Path(OLD_ROOT).rmdir()
    if spec["readOnlyRoot"]:
        mount("", "/", flags=MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
