"""A cluster needs no root: started by a user without any rights, it runs pods and leaves nothing behind."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deadline import wait_until
from diffusion_local.binaries.find import ensure
from diffusion_local.binaries.recipe import CLUSTER_PROGRAMS, cache_home

COMMAND = [sys.executable, "-m", "diffusion_local"]
OPEN_FOR_ALL = 0o001
AS_NOBODY = """
set -e
scratch=$1; shift
mount -t tmpfs tmpfs "$scratch"
while [ "$1" != -- ]; do
    layer=$(mktemp -d "$scratch/XXXXXX"); mkdir "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" "$1"
    chmod a+rx "$1"; shift
done
shift
exec setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups "$@"
"""
"""In a mount namespace of its own: open the folders that are given, for this command alone, and run it as nobody."""


def closed_folders() -> list[str]:
    """Folders that keep other users from this Python, this checkout, or the programs: a home folder, as a rule."""
    wanted = [Path(sys.base_prefix), Path(__file__).resolve(), Path(sys.prefix), cache_home()]
    above = {folder for path in wanted for folder in path.parents}
    return [str(folder) for folder in sorted(above) if not folder.stat().st_mode & OPEN_FOR_ALL]


@pytest.fixture
def home() -> Iterator[Path]:
    """A new home of nobody's; of this user's, where this user is no root already."""
    folder = Path(tempfile.mkdtemp(prefix="nobody-", dir="/tmp"))
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    yield folder
    shutil.rmtree(folder)


def local(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a plain user whose home is `home`."""
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(cache_home().parents[1])}
    command = [*COMMAND, *words]
    if os.getuid() == 0:
        opened = [*closed_folders(), "--"]
        with tempfile.TemporaryDirectory() as scratch:
            command = ["unshare", "--mount", "sh", "-c", AS_NOBODY, "sh", scratch, *opened, *command]
            return run(command, environment)
    return run(command, environment)


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False, timeout=240)


def test_a_user_without_rights_runs_pods_and_nothing_is_left(home: Path) -> None:
    ensure(CLUSTER_PROGRAMS, print)
    state = home / ".local" / "state" / "diffusion-local" / "default"
    try:
        started = local(home, "up", "--nodes", "1", "--spot", "0")
        assert started.returncode == 0, started.stderr
        assert "runAsUser and fsGroup of pods are not held" in started.stderr
        assert state.stat().st_uid != 0
        made = local(home, "kubectl", "run", "one", "--image=busybox:1.37", "--restart=Never", "--", "id", "-u")
        assert made.returncode == 0, made.stderr
        phase = ("kubectl", "get", "pod", "one", "-o", "jsonpath={.status.phase}")
        wait_until(lambda: local(home, *phase).stdout == "Succeeded", 60, "the pod's end", every=1)
        family = [
            part for part in psutil.process_iter(["cmdline"]) if str(state) in " ".join(part.info["cmdline"] or [])
        ]
        assert len(family) >= 5
        assert {part.uids().real for part in family} == {state.stat().st_uid}
    finally:
        ended = local(home, "down")
    assert ended.stdout == "the cluster 'default' is down\n", ended.stderr
    assert not any(part.is_running() and part.status() != psutil.STATUS_ZOMBIE for part in family)
    assert not any(state.parent.iterdir())
