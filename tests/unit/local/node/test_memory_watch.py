"""Memory limits without cgroups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deadline import wait_until
from diffusion_local.node.memory_watch import memory_used, over_limit, process_table, sum_of

HOLD = "hold = bytearray(b'x' * (48 << 20)); print('up', flush=True); input()"


def process(folder: Path, pid: int, namespace: str, status: str, rollup: str = "") -> None:
    home = folder / str(pid)
    (home / "ns").mkdir(parents=True)
    (home / "ns/pid").symlink_to(namespace)
    (home / "status").write_text(status)
    (home / "smaps_rollup").write_text(rollup)


def test_processes_are_told_apart_by_their_table(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    for pid, namespace in ((1, "pid:[1]"), (2, "pid:[2]"), (3, "pid:[2]")):
        process(tmp_path, pid, namespace, "")
    table = process_table(tmp_path)
    assert {name: sorted(pids) for name, pids in table.items()} == {"pid:[1]": [1], "pid:[2]": [2, 3]}


def test_the_quick_sum_is_enough_below_the_limit(tmp_path: Path) -> None:
    process(
        tmp_path,
        5,
        "pid:[1]",
        "VmRSS: 900 kB\nRssAnon:  100 kB\nRssFile: 700 kB\nRssShmem: 50 kB\n",
        "Pss_Anon: 9 kB\n",
    )
    assert memory_used([5], 200 * 1024, tmp_path) == 150 * 1024


def test_shared_pages_count_once_above_it(tmp_path: Path) -> None:
    for pid in (5, 6):
        process(tmp_path, pid, "pid:[1]", "RssAnon: 100 kB\n", "Pss_Anon: 60 kB\nPss_File: 500 kB\nPss_Shmem: 5 kB\n")
    assert memory_used([5, 6], 150 * 1024, tmp_path) == 130 * 1024


def test_a_process_that_is_gone_uses_nothing(tmp_path: Path) -> None:
    assert sum_of(tmp_path / "7/status", ("RssAnon:",)) == 0
    assert over_limit({}) == []
    assert over_limit({2**22 + 1: 1}) == []


def test_a_real_process_above_its_limit_is_found() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        size = sum_of(Path(f"/proc/{child.pid}/status"), ("RssAnon:",))
        assert size > 48 << 20
        child.communicate(b"\n")


def test_the_own_table_is_above_a_tiny_limit() -> None:
    wait_until(lambda: over_limit({os.getpid(): 1024}) == [os.getpid()], 5, "this process is above 1 kB")


@pytest.mark.parametrize("limit", [1 << 50])
def test_nothing_is_above_a_huge_limit(limit: int) -> None:
    assert over_limit({os.getpid(): limit}) == []
