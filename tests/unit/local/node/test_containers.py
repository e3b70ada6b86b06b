"""Real containers: what their processes find when they start, and commands that are run beside them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contained import Order, contained
from diffusion_local.launch import UNSHARE
from diffusion_local.node.memory_watch import outgrew


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return {"name": "main", "command": ["sh", "-c", script], **fields}


KEPT_BY_LIBC = 1 << 31 | 1 << 32
"""Signals 32 and 33: no program can set them, and whoever runs these tests may have them ignored."""


def signals(line: str) -> tuple[str, int]:
    """A mask of /proc/PID/status: its name, and the signals in it that a program can set."""
    name, mask = line.split()
    return name.rstrip(":"), int(mask, 16) & ~KEPT_BY_LIBC


def test_a_command_that_no_program_can_be_given_was_not_started(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="CommandNotStarted: embedded null byte"):
        contained(Order(str(tmp_path), shell("exit 0", command=["true", "a\0b"])))


def test_no_signal_is_ignored_or_blocked(tmp_path: Path) -> None:
    look = ["grep", "-E", "^Sig(Ign|Blk):", "/proc/1/status"]
    outcome = contained(Order(str(tmp_path), {"name": "main", "command": look}))
    assert [signals(line) for line in outcome.log] == [("SigBlk", 0), ("SigIgn", 0)]


@pytest.mark.parametrize("place", ["/opt/models", "/usr/share/nginx/html", "/usr/local/app", "/etc/else/where"])
def test_a_volume_may_lie_where_the_machine_has_nothing(tmp_path: Path, place: str) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    (source / "file").write_text("here")
    script = f"cat {place}/file; echo; touch {place}/new; ls {Path(place).parent}; touch {Path(place).parent}/x"
    outcome = contained(Order(str(tmp_path), shell(script), mounts={str(source): place}))
    assert outcome.log[0] == "here"
    assert (source / "new").exists()
    beside = Path(place).parent
    known = [entry.name for entry in beside.iterdir()] if beside.exists() else []
    assert {*known, Path(place).name} <= set(outcome.log)


def test_folders_that_were_opened_up_keep_volumes_and_stay_read_only(tmp_path: Path) -> None:
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    mounts = {str(tmp_path / "outer"): "/usr/local", str(tmp_path / "inner"): "/usr/share/some/where"}
    script = "ls /usr/local /usr/share/some/where; touch /usr/share/x; ls -d /usr/share/man /usr/bin/env"
    outcome = contained(Order(str(tmp_path), shell(script), mounts=mounts))
    assert {"outer", "inner", "/usr/share/man", "/usr/bin/env"} <= set(outcome.log)
    assert any("Read-only file system" in line for line in outcome.log)


@pytest.mark.parametrize("place", ["/opt/some/where", "/srv/app", "/usr/local/app"])
def test_a_working_folder_that_is_missing_is_made_and_may_be_written(tmp_path: Path, place: str) -> None:
    outcome = contained(Order(str(tmp_path), shell("touch here; pwd; ls", workingDir=place)))
    assert outcome.log == [place, "here"]


def test_a_working_folder_beside_a_volume_may_be_written_unless_the_root_may_not(tmp_path: Path) -> None:
    strict = {"readOnlyRootFilesystem": True}
    for name, security, expected in (("free", {}, "here"), ("strict", strict, "Read-only file system")):
        (tmp_path / name / "volume").mkdir(parents=True)
        container = shell("touch here; ls", workingDir="/opt/app", securityContext=security)
        mounts = {str(tmp_path / name / "volume"): "/opt/models"}
        outcome = contained(Order(str(tmp_path / name), container, mounts=mounts))
        assert expected in outcome.log[0]


def test_a_command_beside_the_container_has_its_folder_identity_and_variables(tmp_path: Path) -> None:
    container = shell(
        "while ! test -e /tmp/over; do sleep 0.05; done",
        workingDir="/srv/app",
        securityContext={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    )
    facts = "pwd; echo $$ $HOSTNAME; grep -E '^(CapEff|NoNewPrivs|SigIgn):' /proc/self/status"
    orders = [["sh", "-c", facts], ["no-such-program"], ["sh", "-c", "kill -9 $$"], ["touch", "/tmp/over"]]
    outcome = contained(Order(str(tmp_path), container, commands=orders))
    folder, number, *status = outcome.answers[0]["message"].splitlines()
    assert folder == "/srv/app"
    assert int(number.split()[0]) < 100
    assert signals(status[0]) == ("SigIgn", 0)
    assert [line.split() for line in status[1:]] == [["CapEff:", "0000000000000000"], ["NoNewPrivs:", "1"]]
    assert "executable file not found" in outcome.answers[1]["message"]
    assert [answer["good"] for answer in outcome.answers] == [True, False, False, True]
    assert outcome.exit_code == 0


def test_a_command_that_takes_too_long_is_killed_and_does_not_keep_the_container(tmp_path: Path) -> None:
    container = shell("while ! test -e /tmp/over; do sleep 0.05; done; exit 3")
    slow = ["sh", "-c", "sleep 600 & sleep 600"]
    look = ["sh", "-c", "! grep -l '[s]leep.600' /proc/[0-9]*/cmdline && touch /tmp/over"]
    outcome = contained(Order(str(tmp_path), container, commands=[slow, look], patience=2.0))
    assert outcome.answers[0] == {"good": False, "message": "command timed out after 2s"}
    assert outcome.answers[1]["good"]
    assert outcome.exit_code == 3


def test_the_peak_of_a_short_run_tells_that_it_outgrew_its_limit(tmp_path: Path) -> None:
    limit = 64 << 20
    for name, program, above in (("big", "hold = b'x' * (300 << 20)", True), ("small", "", False)):
        (tmp_path / name).mkdir()
        container = {"name": "main", "command": ["python3", "-S", "-c", program]}
        outcome = contained(Order(str(tmp_path / name), container))
        assert outcome.exit_code == 0
        assert outgrew(limit, outcome.peak, outcome.inherited_peak, 0.5) is above
        assert not outgrew(limit, outcome.peak, outcome.inherited_peak, 60.0)
        assert 0 < outcome.seconds < 60


def test_sigterm_reaches_the_whole_process_group(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, time\n"
        "child = os.fork()\n"
        "who = 'parent' if child else 'child'\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print(who, flush=True), os._exit(0) if not child else None))\n"
        "if not child: open('/tmp/up', 'w'); time.sleep(60)\n"
        "os.wait(); sys.exit(7)\n"
    )
    container = {"name": "main", "command": ["python3", "-c", program]}
    wait = ["sh", "-c", "until test -e /tmp/up; do sleep 0.05; done"]
    outcome = contained(Order(str(tmp_path), container, commands=[wait], stop=True))
    assert sorted(outcome.log) == ["child", "parent"]
    assert outcome.exit_code == 7


def test_users_are_held_or_it_is_said_why_not(tmp_path: Path) -> None:
    asked = {"runAsUser": 1234, "runAsGroup": 3000, "supplementalGroups": [4000]}
    script = "id -u; id -g; id -G; echo said > /dev/stdout; while ! test -e /tmp/over; do sleep 0.05; done"
    orders = [["id", "-u"], ["touch", "/tmp/over"]]
    outcome = contained(Order(str(tmp_path), shell(script, securityContext=asked), commands=orders))
    program = "from diffusion_local.node.identity import users_not_held; print(users_not_held())"
    told = subprocess.run([*UNSHARE, sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    held = ["1234", "3000", "3000 4000"]
    assert (outcome.log[:3] == held) == (told == "\n"), told
    assert outcome.log[3] == "said"
    assert [answer["message"].strip() for answer in outcome.answers] == [outcome.log[0], ""]


def test_root_has_what_a_runtime_leaves_it(tmp_path: Path) -> None:
    usual, more = "CapEff:\t00000000a80425fb", "CapEff:\t00000000aa0425fb"
    for name, asked, mask in (("plain", {}, usual), ("clock", {"capabilities": {"add": ["SYS_TIME"]}}, more)):
        (tmp_path / name).mkdir()
        look = shell("grep CapEff /proc/self/status", securityContext=asked)
        assert contained(Order(str(tmp_path / name), look)).log == [mask]
