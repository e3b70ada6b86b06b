"""Processes told apart whatever the wall clock does, and commands that wait for each other."""

import dataclasses
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deadline import wait_until
from diffusion_local import launch
from diffusion_local.cluster_lock import locked
from diffusion_local.lifetimes import ProcessIdentity, children_of, is_zombie, wait_for_ends
from diffusion_local.options import ClusterOptions
from diffusion_local.state import StateFolder


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


class TestProcessIdentity:
    def test_a_process_is_itself_by_ticks_since_boot_and_by_which_boot(self, sleeper: subprocess.Popen[bytes]) -> None:
        identity = ProcessIdentity.of(sleeper.pid)
        field_22 = Path(f"/proc/{sleeper.pid}/stat").read_text().split()[21]  # "sleep" holds no space
        assert identity.start_ticks == int(field_22)
        assert identity.runs()
        assert not dataclasses.replace(identity, start_ticks=identity.start_ticks + 1).runs()
        assert not dataclasses.replace(identity, boot="another").runs()

    def test_an_ended_one_does_not_run_even_before_it_was_waited_for(self, sleeper: subprocess.Popen[bytes]) -> None:
        identity = ProcessIdentity.of(sleeper.pid)
        assert identity.kill_with([], 5)
        assert is_zombie(sleeper.pid)
        assert not identity.runs()
        assert identity.wait(0)
        sleeper.wait()
        assert not identity.runs()
        assert not is_zombie(sleeper.pid)
        with pytest.raises(ProcessLookupError):
            ProcessIdentity.of(sleeper.pid)

    def test_another_process_with_its_number_is_never_killed(self, sleeper: subprocess.Popen[bytes]) -> None:
        earlier = dataclasses.replace(ProcessIdentity.of(sleeper.pid), start_ticks=1)
        assert earlier.kill_with([], 5)
        assert sleeper.poll() is None

    def test_an_end_that_does_not_come_is_said(self, sleeper: subprocess.Popen[bytes]) -> None:
        assert not ProcessIdentity.of(sleeper.pid).wait(0.05)
        assert wait_for_ends([], 0)

    def test_its_children_are_seen(self, sleeper: subprocess.Popen[bytes]) -> None:
        assert sleeper.pid in ProcessIdentity.of(os.getpid()).children()
        assert ProcessIdentity(sleeper.pid, 1, "another").children() == []
        assert children_of(2**22 + 1) == []


class TestSupervisorsBegin:
    """The supervisor begins only when it is on record, so that none is left that nobody knows."""

    def start(self, folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        """Start a stand-in in place of the namespaces: it takes the gate as the supervisor does, and then stays."""
        stand_in = (
            "import os, sys; from pathlib import Path\n"
            "told = dict(zip(sys.argv[4::2], sys.argv[5::2]))\n"
            "folder, gate = Path(told['--folder']), int(told['--gate'])\n"
            "(folder / 'waiting').touch(); began = os.read(gate, 1)\n"
            "(folder / ('began' if began else 'gave-up')).touch()\n"
            "sys.exit(0)"
        )
        monkeypatch.setattr(launch, "UNSHARE", (sys.executable, "-c", stand_in))
        folder.create()
        launch.start(folder, ClusterOptions(programs={}), owned=False)

    def test_it_begins_when_it_is_on_record(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = StateFolder(tmp_path / "c")
        self.start(folder, monkeypatch)
        wait_until((folder.root / "began").exists, 10, "its begin")
        recorded = launch.recorded(folder)
        assert recorded is not None
        recorded.wait(10)
        launch._STARTED.pop(recorded.pid).wait()

    def test_it_ends_when_the_record_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = StateFolder(tmp_path / "c")

        def full_disk(path: Path, _: object) -> None:
            if path == folder.supervisor:
                wait_until((folder.root / "waiting").exists, 10, "the supervisor at its gate")
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(launch, "write_json", full_disk)
        before = set(launch._STARTED)
        with pytest.raises(OSError, match="No space left"):
            self.start(folder, monkeypatch)
        wait_until((folder.root / "gave-up").exists, 10, "the end of the supervisor")
        for pid in set(launch._STARTED) - before:
            launch._STARTED.pop(pid).wait()


class TestLock:
    def test_who_waits_says_for_what_and_nothing_is_left(self, tmp_path: Path) -> None:
        folder = StateFolder(tmp_path / "c")
        said: list[str] = []
        held: list[str] = []

        def second() -> None:
            with locked(folder, said.append):
                held.append("second")

        thread = threading.Thread(target=second)
        with locked(folder, said.append):
            thread.start()
            wait_until(lambda: said, 5, "a word about the wait")
            held.append("first")
        thread.join(120)
        assert held == ["first", "second"]
        assert said == ["another command starts or ends the cluster 'c'; waiting for it"]
        assert list(tmp_path.iterdir()) == []

    def test_two_clusters_do_not_wait_for_each_other(self, tmp_path: Path) -> None:
        said: list[str] = []
        with locked(StateFolder(tmp_path / "a"), said.append), locked(StateFolder(tmp_path / "b"), said.append):
            assert not said

    def test_many_at_once_are_one_at_a_time(self, tmp_path: Path) -> None:
        folder = StateFolder(tmp_path / "c")
        inside: list[int] = []

        def work() -> None:
            for _ in range(20):
                with locked(folder, lambda _: None):
                    inside.append(1)
                    assert len(inside) == 1
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        assert not folder.lock.exists()
