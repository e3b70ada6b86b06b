"""scripts/prepare-environment, really interrupted: with a Python that only pretends, which can be held at any step."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deadline import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 60.0
STEPS = ("venv", "pip", "sync", "editable", "import")
INTERRUPTIONS = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM)

# One program in the place of Python, pip and uv. It logs each step, leaves half of its work behind while it is held in
# the step that the file `hold` names, and does the whole once it is let go.
PRETENDED = """#!/bin/bash
held() {
    env >> "$TOYS/environment"
    echo "$1" >> "$TOYS/log"
    if [ "$(cat "$TOYS/hold" 2>/dev/null)" = "$1" ]; then
        : > "$TOYS/reached"  # no program: bash goes on after a signal that it gets while one runs that ends well
        read -r < "$TOYS/gate"
    fi
    [ "$(cat "$TOYS/fail" 2>/dev/null)" != "$1" ] || { echo "no route to the packages" >&2; exit 3; }
}
case "$*" in
"-c import sys, venv"*) [ ! -e "$TOYS/too-old" ] ;;
"-I -c import sys"* | "-c import sys; print"*) echo "(3, 11, of toys)" ;;
"-I -c "*) exit 0 ;;
"-m venv --clear .venv")
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python
    held venv
    touch .venv/has-pip ;;
"-m pip install"*)
    [ -e .venv/has-pip ] || { echo "No module named pip" >&2; exit 1; }
    held pip
    cp "$0" .venv/bin/uv ;;
"cache dir") echo "${XDG_CACHE_HOME:-$PWD/cache}/uv" ;;
"pip sync"*)
    [ ! -e .venv/half-linked ] || { touch .venv/spoilt; exit 0; }
    touch .venv/half-linked
    echo " + a-package==1" >&2
    held sync
    rm .venv/half-linked ;;
"pip install"*) held editable; touch .venv/ours ;;
"-c import accelerate"*)
    held import
    [ -e .venv/ours ] && [ ! -e .venv/spoilt ] ;;
*) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


class Checkout:
    """A checkout with the script alone, and the pretended Python."""

    def __init__(self, root: Path, toys: Path, started: list[subprocess.Popen[str]]) -> None:
        self.root, self.toys, self.started = root, toys, started
        self.stamp = root / ".venv" / ".prepared"

    def start(self, **variables: str) -> subprocess.Popen[str]:
        """The script in a process group of its own, as a terminal starts it."""
        process = subprocess.Popen(
            [self.root / "scripts" / "prepare-environment"],
            env=os.environ | {"PYTHON": str(self.toys / "python"), "TOYS": str(self.toys)} | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, **variables: str) -> tuple[int, str]:
        """Its exit code and what it said."""
        process = self.start(**variables)
        said, _ = process.communicate(timeout=SECONDS)
        return process.returncode, said

    def steps(self) -> list[str]:
        """What was done since this was last asked."""
        log = self.toys / "log"
        done = log.read_text().split() if log.exists() else []
        log.unlink(missing_ok=True)
        return done

    def held_at(self, step: str) -> subprocess.Popen[str]:
        """The script, held in the middle of `step`."""
        (self.toys / "reached").unlink(missing_ok=True)
        (self.toys / "hold").write_text(step)
        process = self.start()
        wait_until((self.toys / "reached").exists, SECONDS, f"the step {step}")
        return process

    def interrupt_at(self, step: str, how: signal.Signals) -> None:
        """Begin, and get the signal in the middle of `step`; make sends SIGTERM to the script alone."""
        process = self.held_at(step)
        os.kill(process.pid if how is signal.SIGTERM else -process.pid, how)
        process.communicate(timeout=SECONDS)  # ends with the last of those who have its output
        (self.toys / "hold").unlink()

    def let_go(self) -> None:
        """Let what is held go on."""
        (self.toys / "hold").unlink()
        (self.toys / "gate").write_text("go\n")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Leaders of process groups, which do not outlive their test, however that ends."""
    leaders: list[subprocess.Popen[str]] = []
    yield leaders
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.communicate(timeout=SECONDS)


@pytest.fixture
def checkout(tmp_path: Path, started: list[subprocess.Popen[str]]) -> Checkout:
    root, toys = tmp_path / "repo", tmp_path / "toys"
    shutil.copytree(REPOSITORY / "requirements", root / "requirements")
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    (root / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "prepare-environment", root / "scripts")
    toys.mkdir()
    os.mkfifo(toys / "gate")
    python = toys / "python"
    python.write_text(PRETENDED)
    python.chmod(0o755)
    return Checkout(root, toys, started)


def test_nothing_is_done_twice(checkout: Checkout) -> None:
    code, said = checkout.run()
    assert code == 0, said
    assert checkout.steps() == list(STEPS)
    assert "a-package" not in said, "one line a package is a wall"
    assert checkout.run() == (0, "")
    assert checkout.steps() == []


def test_what_a_shell_says_for_other_projects_leads_no_package_out_of_the_environment(checkout: Checkout) -> None:
    elsewhere = {"UV_SYSTEM_PYTHON": "1", "UV_PYTHON": "3.13", "UV_TARGET": "/elsewhere", "UV_PREFIX": "/elsewhere"}
    elsewhere |= {"PIP_USER": "1", "PIP_TARGET": "/elsewhere", "PYTHONPATH": "/elsewhere", "PYTHONHOME": "/elsewhere"}
    code, said = checkout.run(UV_CACHE_DIR="/mine", **elsewhere)
    assert code == 0, said
    seen = (checkout.toys / "environment").read_text().splitlines()
    assert "UV_CACHE_DIR=/mine" in seen
    assert not {line for line in seen for name in elsewhere if line.startswith(f"{name}=")}


@pytest.mark.parametrize("how", INTERRUPTIONS, ids=lambda how: how.name)
@pytest.mark.parametrize("step", STEPS)
def test_interrupted_anywhere_it_begins_anew(checkout: Checkout, step: str, how: signal.Signals) -> None:
    checkout.interrupt_at(step, how)
    assert not checkout.stamp.exists()
    checkout.steps()
    code, said = checkout.run()
    assert code == 0, said
    assert checkout.steps() == list(STEPS)


@pytest.mark.parametrize("how", INTERRUPTIONS, ids=lambda how: how.name)
@pytest.mark.parametrize("step", STEPS[1:])
def test_an_interrupted_update_is_not_taken_for_the_old_environment(
    checkout: Checkout, step: str, how: signal.Signals
) -> None:
    assert checkout.run()[0] == 0
    with (checkout.root / "requirements" / "dev.txt").open("a") as lock:
        lock.write("# another version\n")
    checkout.steps()
    checkout.interrupt_at(step, how)
    checkout.steps()
    code, said = checkout.run()
    assert code == 0, said
    assert checkout.steps() == list(STEPS)


def test_an_update_keeps_the_environment(checkout: Checkout) -> None:
    assert checkout.run()[0] == 0
    with (checkout.root / "pyproject.toml").open("a") as project:
        project.write("# edited\n")
    checkout.steps()
    assert checkout.run()[0] == 0
    assert checkout.steps() == list(STEPS[1:])


def test_a_copied_checkout_gets_its_own(checkout: Checkout) -> None:
    assert checkout.run()[0] == 0
    copy = Checkout(checkout.root.with_name("repo2"), checkout.toys, checkout.started)
    shutil.copytree(checkout.root, copy.root)
    checkout.steps()
    assert copy.run()[0] == 0
    assert copy.steps() == list(STEPS)


def test_a_python_that_is_gone_is_replaced(checkout: Checkout) -> None:
    assert checkout.run()[0] == 0
    python = checkout.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    checkout.steps()
    code, said = checkout.run()
    assert code == 0, said
    assert checkout.steps() == list(STEPS)


def test_two_at_once_do_the_work_once(checkout: Checkout) -> None:
    first = checkout.held_at("sync")
    second = checkout.start()
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    checkout.let_go()
    first_said, _ = first.communicate(timeout=SECONDS)
    second_said, _ = second.communicate(timeout=SECONDS)
    assert (first.returncode, second.returncode) == (0, 0), first_said + second_said
    assert checkout.steps() == list(STEPS)


def test_what_does_not_import_is_not_ready(checkout: Checkout) -> None:
    (checkout.toys / "fail").write_text("import")
    code, said = checkout.run()
    assert code == 1
    assert said.splitlines()[-1].startswith("error: the packages were installed and do not import")
    assert not checkout.stamp.exists()


@pytest.mark.parametrize("step", STEPS[:-1])
def test_a_failure_ends_with_what_to_do(checkout: Checkout, step: str) -> None:
    (checkout.toys / "fail").write_text(step)
    code, said = checkout.run()
    assert code != 0
    assert said.splitlines()[-1].startswith("error: the environment is not ready"), said
    assert not checkout.stamp.exists()


def test_a_cache_that_cannot_be_written_to_is_named_with_the_remedy(checkout: Checkout) -> None:
    code, said = checkout.run(XDG_CACHE_HOME="/proc/nowhere")
    assert code == 1
    assert "error: the cache of the package installer, /proc/nowhere/uv, cannot be written to: set XDG_CACHE" in said
    assert checkout.run()[0] == 0


def test_a_missing_python_is_named_in_one_line(checkout: Checkout) -> None:
    (checkout.toys / "too-old").touch()
    process = subprocess.run(
        [checkout.root / "scripts" / "prepare-environment"],
        env={"PATH": f"{checkout.toys}:{without_pythons(checkout.toys)}", "TOYS": str(checkout.toys)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: Python 3.11"), process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_a_python_that_cannot_be_used_is_said_to_be_passed_over(checkout: Checkout) -> None:
    (checkout.toys / "python3.11").symlink_to(checkout.toys / "python")
    path = f"{checkout.toys}:{os.environ['PATH']}"
    for prepared in (False, True):
        code, said = checkout.run(PYTHON="/nowhere/python", PATH=path)
        assert code == 0, said
        first, *others = said.splitlines()
        assert first == (
            "==> PYTHON=/nowhere/python is passed over: it is no Python 3.11, 3.12 or 3.13 with its module venv."
        )
        assert bool(others) != prepared, said


def test_a_python_of_another_version_than_the_environment_s_is_said_to_be_passed_over(checkout: Checkout) -> None:
    assert checkout.run()[0] == 0
    code, said = checkout.run(PYTHON=sys.executable)
    assert code == 0
    assert said == (
        f"==> PYTHON={sys.executable} is passed over: .venv has another version. To build it anew, give make clean "
        "first.\n"
    )


def without_pythons(toys: Path) -> Path:
    """A folder with the programs that the script itself needs, and no Python."""
    programs = toys / "programs"
    programs.mkdir()
    for name in ("bash", "env", "dirname", "cat", "sha256sum", "cut", "sed", "rm", "flock"):
        found = shutil.which(name)
        assert found, name
        (programs / name).symlink_to(found)
    return programs
