"""The command line, as far as it goes without a cluster."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from diffusion_local import launch
from diffusion_local.command import main
from diffusion_local.state import HOME_VARIABLE, StateFolder

NAMES = {"up", "down", "status", "kubeconfig", "logs", "kubectl", "helm", "node", "apiserver", "import"}
NODE_NAMES = {"add", "cordon", "uncordon", "preempt", "kill", "recover"}
NEEDS_CLUSTER = [
    ["status"],
    ["kubeconfig"],
    ["logs", "etcd"],
    ["kubectl", "get", "nodes"],
    ["helm", "list"],
    ["node", "add"],
    ["node", "cordon", "a"],
    ["node", "preempt", "a", "--notice", "0"],
    ["node", "kill", "a"],
    ["node", "recover", "a"],
    ["apiserver", "stop"],
    ["apiserver", "start"],
    ["import", "a=sh"],
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    return tmp_path


def test_the_commands_are_the_documented_ones() -> None:
    assert set(main.commands) == NAMES
    node = main.commands["node"]
    assert isinstance(node, click.Group)
    assert set(node.commands) == NODE_NAMES


@pytest.mark.parametrize("words", [[], ["up"], ["down"], ["node"], ["node", "preempt"], ["logs"], ["import"]])
def test_help_is_there(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_version_is_the_distributions() -> None:
    assert version("diffusion-operator") in CliRunner().invoke(main, ["--version"]).output


@pytest.mark.parametrize("words", NEEDS_CLUSTER)
def test_without_a_cluster_one_line_names_the_remedy(words: list[str]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert result.output == "Error: no cluster called 'default' is up: start one with `diffusion-local up`\n"


def test_down_without_a_cluster_is_no_error_and_removes_remains(home: Path) -> None:
    assert CliRunner().invoke(main, ["down"]).output == "no cluster 'default' was up\n"
    locked = home / "default" / "volumes" / "a"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0)
    assert "the remains of an earlier one are removed" in CliRunner().invoke(main, ["down"]).output
    assert not (home / "default").exists()


@pytest.mark.parametrize("name", ["A", "../x", "a/b", "", "a b"])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    result = CliRunner().invoke(main, ["up", "--name", name])
    assert result.exit_code == 1
    assert "cannot name a cluster" in result.output


def test_a_bad_forward_names_the_option() -> None:
    result = CliRunner().invoke(main, ["up", "--forward", "web"])
    assert result.exit_code == 2
    assert "--forward" in result.output
    assert "NAMESPACE/SERVICE:PORT" in result.output


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "ip" else f"/bin/{tool}")
    result = CliRunner().invoke(main, ["up"])
    assert result.exit_code == 1
    assert "the command ip is missing: install the package iproute2" in result.output


def test_refused_user_namespaces_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = subprocess.CompletedProcess([], 1, "", "unshare: unshare failed: Operation not permitted\n")
    monkeypatch.setattr("shutil.which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: refused)
    result = CliRunner().invoke(main, ["up"])
    assert result.exit_code == 1
    assert "refuses user namespaces (unshare: unshare failed: Operation not permitted)" in result.output
    assert "sysctl" in result.output
    assert not result.output.strip().count("Traceback")


def test_a_kernel_without_virtual_network_pairs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        refused = "veth" in command
        return subprocess.CompletedProcess(command, int(refused), "", "Error: Unknown device type.\n" * refused)

    monkeypatch.setattr("shutil.which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr("subprocess.run", answer)
    result = CliRunner().invoke(main, ["up"])
    assert result.exit_code == 1
    assert "no virtual network pairs (Error: Unknown device type.): load its module veth" in result.output


def test_another_process_with_the_same_number_is_not_taken_for_the_cluster(home: Path) -> None:
    folder = StateFolder(home / "default")
    folder.create()
    folder.supervisor.write_text('{"pid": 1, "started": 0.0}')
    assert launch.running(folder) is None
    assert launch.end(folder) is False
