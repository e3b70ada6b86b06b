"""What a newcomer types: the targets of make, and the console scripts."""

import os
import shlex
import signal
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import IO

import click
import pytest
from click.testing import CliRunner

from cluster_fixtures import is_portable
from deadline import wait_until
from diffusion_contract.console_scripts import SCRIPTS
from diffusion_local.lifetimes import children_of
from killed_at_the_end import started

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
TARGETS = ["demo", "test", "check", "crash", "e2e", "bench", "up", "down", "clean"]


def make(*arguments: str, **variables: str) -> str:
    """What make prints; none of its recipes is run when `arguments` begin with -n."""
    environment = environment_of_make() | variables
    done = subprocess.run(
        ["make", *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def environment_of_make() -> dict[str, str]:
    """Ours, without what the make says that runs these tests."""
    ours = ("KUBECONFIG", "MAKEFLAGS", "MAKELEVEL")
    return {name: value for name, value in os.environ.items() if name not in ours}


def test_help_lists_each_target_on_one_line() -> None:
    lines = make("help").splitlines()
    assert [line.split()[:2] for line in lines] == [["make", target] for target in TARGETS]
    assert all(len(line.split()) > 3 for line in lines), "each says what it does"
    assert max(len(line) for line in lines) <= 120


@pytest.mark.parametrize("target", ["test", "crash", "e2e", "bench"])
def test_the_machine_is_checked_before_anything_long_begins(target: str) -> None:
    steps = make("-n", target)
    assert steps.index("diffusion_local.binaries") < steps.index("-m pytest" if target != "bench" else "-m bench")
    assert steps.count("prepare-environment") == 1


CHECKS = ("ruff format --check", "ruff check", "mypy", "lint-imports", "codespell", "shellcheck", "yamllint --strict")


@pytest.mark.parametrize("target", ["check", "test"])
def test_every_check_is_made(target: str) -> None:
    steps = make("-n", target)
    assert [check for check in (*CHECKS, "test_size_limits.py") if check not in steps] == []
    assert tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]["strict"] is True


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    does = [line for line in script if line and not line.startswith("#")]
    assert does == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)


@pytest.mark.parametrize("how", ["variable", "argument"])
def test_e2e_runs_on_the_cluster_of_kubeconfig(how: str) -> None:
    steps = (
        make("-n", "e2e", KUBECONFIG="kind.yaml") if how == "variable" else make("-n", "e2e", "KUBECONFIG=kind.yaml")
    )
    assert 'KUBECONFIG_UNDER_TEST="kind.yaml"' in steps
    assert "diffusion_local.binaries" not in steps


def test_no_other_target_touches_the_cluster_of_kubeconfig() -> None:
    steps = make("-n", "test", KUBECONFIG="kind.yaml", KUBECONFIG_UNDER_TEST="kind.yaml")
    assert "kind.yaml" not in steps
    assert "KUBECONFIG_UNDER_TEST= " in steps


def test_only_what_a_foreign_cluster_can_do_is_asked_of_it() -> None:
    assert is_portable(["cluster", "cluster_namespace", "tmp_path"])
    assert not is_portable(["cluster", "embedded"]), "its nodes are not ours to kill"
    assert not is_portable(["control_plane", "namespace"])
    assert not is_portable(["tmp_path"]), "it has nothing to do with a cluster"


def test_the_cluster_under_test_is_named_and_its_nodes_are_left_alone(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\necho kind-test at https://127.0.0.1:6443\n")
    kubectl.chmod(0o755)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch()
    path = f"{tmp_path}:{os.environ['PATH']}"
    files = [f"tests/cluster/test_{name}.py" for name in ("pod_networks", "node_loss", "crds_surface")]
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *files],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": path, "KUBECONFIG_UNDER_TEST": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "CLUSTER UNDER TEST: kind-test at https://127.0.0.1:6443" in collected
    assert "test_two_pods_bind_one_port_on_all_addresses" in collected
    assert "deselected" in collected
    assert "test_node_loss" not in collected
    assert "test_crds_surface" not in collected


PRETENDED = """
import pathlib, signal, sys
here = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(here.with_name("ended").touch()))
here.with_name("began").touch()
signal.pause()
"""


@pytest.mark.parametrize("target", [["demo"], ["e2e", "KUBECONFIG=kind.yaml"]], ids=["demo", "tests"])
def test_a_killed_make_ends_what_it_runs(tmp_path: Path, target: list[str]) -> None:
    """A demo went on unseen, and the next one took its namespace and its node away."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", PRETENDED])} "$0"\n')
    python.chmod(0o755)
    with started(["make", *target, f"BIN={tmp_path}"], cwd=REPOSITORY, env=environment_of_make()):
        wait_until((tmp_path / "began").exists, 60, "its beginning")
    wait_until((tmp_path / "ended").exists, 60, "its end")


WAITING_TEST = """
import pathlib, signal, time, pytest

here = pathlib.Path(__file__)

@pytest.fixture(scope="session")
def cluster():
    yield
    here.with_name("ending").touch()
    while not here.with_name("asked twice").exists():
        time.sleep(0.05)
    here.with_name("down").touch()

def test_that_gives_the_signal_back(cluster):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

def test_that_waits(cluster):
    here.with_name("up").touch()
    signal.pause()
"""


def test_a_test_run_that_is_told_to_end_ends_its_clusters_first(tmp_path: Path) -> None:
    """Processes ended by themselves; the folders stayed."""
    (tmp_path / "test_waiting.py").write_text(WAITING_TEST)
    run = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", str(tmp_path)]
    path = {"PYTHONPATH": str(REPOSITORY / "tests")}
    with started(run, cwd=tmp_path, env=os.environ | path, stdout=subprocess.DEVNULL) as tests:
        wait_until((tmp_path / "up").exists, 60, "the fixture")
        tests.terminate()
        wait_until((tmp_path / "ending").exists, 60, "the end of the fixture")
        tests.terminate()
        (tmp_path / "asked twice").touch()
        assert tests.wait(60) == 2
    assert (tmp_path / "down").exists()


def command_of(script: str) -> click.Command:
    """The command behind a console script."""
    command = import_module(SCRIPTS[script][0]).main
    assert isinstance(command, click.Command)
    return command


def test_every_console_script_is_installed() -> None:
    installed = {entry.name for entry in entry_points(group="console_scripts") if entry.value.startswith("diffusion_")}
    assert installed == set(PROJECT["scripts"]) == set(SCRIPTS)


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_a_console_script_whose_extra_is_missing_names_it(script: str, tmp_path: Path) -> None:
    absent = dict.fromkeys(("rich", "yaml", "torch", "setproctitle", "httpx", "prometheus_client", "kubernetes"))
    trained = ["run", "--config", str(REPOSITORY / "pyproject.toml"), "--output", str(tmp_path)]
    arguments = trained if script == "diffusion-trainer" else ["--help"]
    program = (
        f"import sys; sys.modules.update({absent}); sys.argv[1:] = {arguments}\n"
        f"import diffusion_contract.console_scripts as scripts; scripts.{script.replace('-', '_')}()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {script} needs ")
    assert done.stderr.endswith(f": pip install 'diffusion-operator[{SCRIPTS[script][1]}]'\n")
    assert len(done.stderr.splitlines()) == 1


AS_PROCESS_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
SLOW = """import os, pathlib, time
assert os.getpid() == 1
pathlib.Path(__file__).with_name("began").touch()
time.sleep(600)
"""


@pytest.mark.parametrize(("script", "code"), [("diffusion-trainer", 75), ("diffusion-server", 0)])
def test_a_container_that_is_told_to_end_while_it_starts_ends_at_once(script: str, code: int, tmp_path: Path) -> None:
    """The signal was lost, and the pod stayed until its grace was over."""
    package = tmp_path / script.replace("-", "_")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "command.py").write_text(SLOW)
    command = [*AS_PROCESS_1, str(Path(sys.executable).parent / script)]
    with started(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}) as container:
        wait_until((package / "began").exists, 60, "the command that is being imported")
        (first,) = children_of(container.pid)
        os.kill(first, signal.SIGTERM)
        assert container.wait(60) == code


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_every_console_script_helps_and_tells_its_version(script: str) -> None:
    command = command_of(script)
    for asked in ("--help", "-h"):
        helped = CliRunner().invoke(command, [asked], prog_name=script)
        assert helped.exit_code == 0
        assert helped.output.startswith(f"Usage: {script}")
    assert version("diffusion-operator") in CliRunner().invoke(command, ["--version"]).output


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("diffusion-operator", ["run", "--agent-port", "65536"]),
        ("diffusion-router", ["serve", "--port", "-1"]),
        ("diffusion-server", ["serve", "--metrics-port", "70000"]),
        *((script, ["--colour"]) for script in PROJECT["scripts"]),
        *((script, ["no-such-command"]) for script in PROJECT["scripts"]),
    ],
)
def test_wrong_arguments_are_exit_code_2_and_one_line(script: str, arguments: list[str]) -> None:
    refused = CliRunner().invoke(command_of(script), arguments)
    assert refused.exit_code == 2
    assert refused.output.splitlines()[-1].startswith("Error: "), refused.output


OUTPUT_IS_FULL = "Error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_a_full_disk_behind_standard_output_is_one_line(script: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = _helped([Path(sys.executable).parent / script], full, PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == OUTPUT_IS_FULL
    assert done.returncode == 1


def test_a_full_disk_behind_the_story_of_the_demo_is_said_too() -> None:
    with Path("/dev/full").open("w") as full:
        done = _helped([sys.executable, "-m", "diffusion_local.demo"], full)
    assert (done.returncode, done.stderr) == (1, OUTPUT_IS_FULL)


@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_where_the_reader_has_gone_nothing_is_said(script: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        done = _helped([Path(sys.executable).parent / script], pipe)
    assert (done.returncode, done.stderr) == (1, "")


def _helped(command: list[str | Path], output: IO[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "--help"],
        env=os.environ | variables,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
