"""What a cluster leaves behind, however it ends: nothing."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deadline import wait_until
from diffusion_local import launch
from diffusion_local.binaries.find import ensure
from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS
from diffusion_local.cluster import Cluster
from diffusion_local.errors import LocalClusterError
from diffusion_local.options import ClusterOptions
from diffusion_local.own_command import own_command
from diffusion_local.state import HOME_VARIABLE, StateFolder
from killed_at_the_end import started

GONE_SECONDS = 10
FOREGROUND = [sys.executable, "-m", "diffusion_local", "up", "--nodes", "0", "--spot", "0", "--foreground"]


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[StateFolder]:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    state = StateFolder.of("default")
    yield state
    launch.end(state)


def local(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diffusion_local", *args], capture_output=True, text=True, check=False, timeout=240
    )


def processes(folder: StateFolder) -> list[psutil.Process]:
    """Every process of the cluster, pods included."""
    holder = launch.running(folder)
    assert holder is not None
    first = psutil.Process(holder.pid)
    return [first, *first.children(recursive=True)]


def all_gone(family: list[psutil.Process]) -> bool:
    return not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


def test_after_a_crash_nothing_runs_and_up_works_again_and_down_removes_all(home: StateFolder) -> None:
    first = local("up", "--nodes", "1", "--spot", "0")
    assert first.returncode == 0, first.stderr
    family = processes(home)
    assert len(family) >= 8
    os.kill(family[0].pid, signal.SIGKILL)
    wait_until(lambda: all_gone(family), GONE_SECONDS, "the end of every process after SIGKILL")
    missing = local("status")
    assert missing.returncode == 1
    assert f"no cluster called 'default' is up: start one with `{own_command('default')} up`" in missing.stderr

    again = local("up", "--nodes", "1", "--spot", "0")
    assert again.returncode == 0, again.stderr
    assert "up already" in local("up").stderr
    other = local("up", "--nodes", "2")
    assert other.returncode == 1
    remedy = f"end it first with `{own_command('default')} down`"
    assert f"is up already, but not as asked (nodes is 1, not 2): {remedy}" in other.stderr
    job = local(
        "kubectl", "create", "job", "j", "--image=busybox:1.37", "--dry-run=client", "-oyaml", "--", "echo", "1"
    )
    assert "command:" in job.stdout
    assert "node-1" in local("kubectl", "get", "nodes", "-o", "name").stdout
    family = processes(home)
    assert local("down").stdout == "the cluster 'default' is down\n"
    assert all_gone(family)
    assert not home.root.exists()
    assert local("down").stdout == "no cluster 'default' was up\n"


def test_in_the_foreground_it_dies_with_its_killed_parent(home: StateFolder) -> None:
    with started(FOREGROUND, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("kubeconfig")
        family = processes(home)
        assert len(family) >= 6
        parent.kill()
    wait_until(lambda: all_gone(family), GONE_SECONDS, "the end of every process after its parent's")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_or_a_closed_terminal_while_it_starts_leaves_nothing(home: StateFolder, number: signal.Signals) -> None:
    with started([sys.executable, "-m", "diffusion_local", "up"], stderr=subprocess.DEVNULL) as starting:
        wait_until(home.supervisor.exists, 20, "the supervisor's start")
        family = processes(home)
        starting.send_signal(number)
        assert starting.wait(120) != 0
    wait_until(lambda: all_gone(family), GONE_SECONDS, "the end of every process after the signal")
    assert launch.running(home) is None


def test_down_waits_for_an_up_that_is_at_work_and_then_ends_what_it_started(home: StateFolder) -> None:
    command = [sys.executable, "-m", "diffusion_local", "up", "--nodes", "0", "--spot", "0"]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as starting:
        wait_until(home.supervisor.exists, 20, "the supervisor's start")
        ended = local("down")
        assert starting.wait(120) == 0, starting.stderr and starting.stderr.read()
    assert ended.stdout == "the cluster 'default' is down\n"
    assert "another command starts or ends the cluster 'default'; waiting for it" in ended.stderr
    assert list(home.root.parent.iterdir()) == []


def test_up_begins_anew_where_an_earlier_start_failed_and_names_a_stopped_api_server(home: StateFolder) -> None:
    home.create()
    broken = ensure(CLUSTER_PROGRAMS, print) | {"kube-apiserver": Path("/bin/false")}
    launch.start(home, ClusterOptions(nodes=0, spot=0, programs=broken), owned=True)
    again = local("up", "--nodes", "0", "--spot", "0")
    assert again.returncode == 0, again.stderr
    assert "an earlier start of it failed (the cluster did not start: kube-apiserver does not stay up" in again.stderr
    assert local("apiserver", "stop").returncode == 0
    stopped = local("up")
    assert stopped.returncode == 1
    assert f"its API server is stopped: `{own_command('default')} apiserver start` ends" in stopped.stderr


def test_in_the_foreground_ctrl_c_ends_it(home: StateFolder) -> None:
    with started(FOREGROUND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as foreground:
        assert foreground.stdout is not None
        assert foreground.stdout.readline().startswith("kubeconfig")
        family = processes(home)
        assert Cluster.find("default").kubectl("get", "--raw", "/readyz").stdout == "ok"
        foreground.send_signal(signal.SIGINT)
        _, said = foreground.communicate(timeout=240)
    assert foreground.returncode == 0
    assert said.splitlines()[-1] == "the cluster 'default' is down"
    assert all_gone(family)
    assert not home.root.exists()


def test_in_the_foreground_it_ends_well_when_another_command_ends_it(home: StateFolder) -> None:
    with started(FOREGROUND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as foreground:
        assert foreground.stdout is not None
        assert foreground.stdout.readline().startswith("kubeconfig")
        assert local("down").stdout == "the cluster 'default' is down\n"
        _, said = foreground.communicate(timeout=240)
    assert foreground.returncode == 0
    assert "Traceback" not in said
    assert list(home.root.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "stand_in", "reason"),
    [
        ("kube-apiserver", "/bin/false", "kube-apiserver does not stay up: it said nothing"),
        ("etcd", "/nowhere/etcd", "No such file or directory"),
    ],
)
def test_a_part_that_cannot_run_is_named_soon_and_nothing_is_left(
    home: StateFolder, program: str, stand_in: str, reason: str
) -> None:
    programs = ensure(CLUSTER_PROGRAMS, print) | {program: Path(stand_in)}
    with pytest.raises(LocalClusterError, match=re.escape(reason)):
        Cluster.start(home, ClusterOptions(nodes=0, spot=0, programs=programs), owned=True)
    assert launch.running(home) is None
