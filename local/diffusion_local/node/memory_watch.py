"""Memory limits without cgroups: the processes of each container are summed up five times a second.

What counts is anonymous and shared memory, each shared page once; mapped files are not counted, since the kernel can
drop them. A container above its limit is killed as a whole. Between two looks it can grow beyond the limit; one that
has ended before they could tell is judged by the peak of its largest process.
"""

from collections.abc import Mapping
from pathlib import Path

LOOK_SECONDS = 0.2
SHORT_SECONDS = 5 * LOOK_SECONDS
MAPPED_BYTES = 32 << 20
"""What a short run may have mapped of programs and libraries, which its peak counts and its limit does not."""
COUNTED = ("RssAnon:", "RssShmem:")
EXACT = ("Pss_Anon:", "Pss_Shmem:")


def process_table(proc: Path = Path("/proc")) -> dict[str, list[int]]:
    """Process ids by the process table (PID namespace) that they live in."""
    table: dict[str, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                table.setdefault(str((entry / "ns/pid").readlink()), []).append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
    return table


def sum_of(file: Path, fields: tuple[str, ...]) -> int:
    """The sum of `fields` of a /proc file, in bytes; 0 for a process that ended."""
    try:
        text = file.read_text()
    except OSError:
        return 0
    rows = [line.split() for line in text.splitlines() if line.startswith(fields)]
    return sum(int(row[1]) * 1024 for row in rows)


def memory_used(pids: list[int], limit: int, proc: Path = Path("/proc")) -> int:
    """Bytes in use by `pids` together: quickly, and exactly where the quick sum is above `limit`."""
    quick = sum(sum_of(proc / str(pid) / "status", COUNTED) for pid in pids)
    if quick <= limit:
        return quick
    return sum(sum_of(proc / str(pid) / "smaps_rollup", EXACT) for pid in pids) or quick


def over_limit(limits: Mapping[int, int]) -> list[int]:
    """Of containers given as first process -> limit in bytes, those that use more."""
    if not limits:
        return []
    table = process_table()
    found = []
    for pid, limit in limits.items():
        try:
            namespace = str(Path(f"/proc/{pid}/ns/pid").readlink())
        except OSError:
            continue
        if memory_used(table.get(namespace, []), limit) > limit:
            found.append(pid)
    return found


def own_peak() -> int:
    """The most memory that this process has had, in bytes: a child's peak begins with it."""
    return sum_of(Path("/proc/self/status"), ("VmHWM:",))


def outgrew(limit: int, peak: int, inherited: int, seconds: float) -> bool:
    """Whether a container that ran for `seconds` was surely above its limit, by its largest process's peak in bytes.

    Longer runs are left to the looks: they may have mapped large files, which the peak counts. A peak that is not above
    the one `inherited` from the agent says nothing.
    """
    return seconds <= SHORT_SECONDS and peak > max(limit + MAPPED_BYTES, inherited)
