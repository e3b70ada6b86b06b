"""The command line, as far as it goes without a cluster."""

import dataclasses
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from diffusion_local import command, launch
from diffusion_local.cluster import Cluster
from diffusion_local.cluster_name import VARIABLE
from diffusion_local.command import main
from diffusion_local.errors import LocalClusterError
from diffusion_local.lifetimes import ProcessIdentity
from diffusion_local.options import ClusterOptions
from diffusion_local.own_command import own_command
from diffusion_local.state import HOME_VARIABLE, StateFolder, write_json

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
    monkeypatch.setattr(command, "end_on_signals", lambda: None)
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
    assert result.output == f"Error: no cluster called 'default' is up: start one with `{own_command('default')} up`\n"


def test_down_without_a_cluster_is_no_error_and_removes_remains(home: Path) -> None:
    assert CliRunner().invoke(main, ["down"]).output == "no cluster 'default' was up\n"
    locked = home / "default" / "volumes" / "a"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0)
    assert "the remains of an earlier one are removed" in CliRunner().invoke(main, ["down"]).output
    assert not (home / "default").exists()


@pytest.mark.parametrize("name", ["A", "../x", "a/b", "", "a b", "a-", "-a", "é", "a" * 41])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    for words in (["up", "--name", name], ["status", "--name", name], ["--name", name, "kubectl", "get", "nodes"]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 1
        assert "cannot name a cluster" in result.output


@pytest.mark.parametrize("name", ["1", "123", "a-1", "a" * 40])
def test_a_folder_name_is_a_name(name: str) -> None:
    assert f"no cluster {name!r} was up" in CliRunner().invoke(main, ["down", "--name", name]).output


def test_a_bad_forward_names_the_option() -> None:
    result = CliRunner().invoke(main, ["up", "--forward", "web:80"])
    assert result.exit_code == 2
    assert "--forward" in result.output
    assert "NAMESPACE or NAMESPACE/SERVICE:PORT" in result.output


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
    write_json(folder.supervisor, dataclasses.asdict(ProcessIdentity(1, 0, "another boot")))
    assert launch.running(folder) is None
    assert launch.end(folder) is False


def remains_of(folder: StateFolder, **options: Any) -> StateFolder:
    """Files as a cluster leaves them that has ended by itself."""
    folder.create()
    folder.config.write_text(ClusterOptions(programs={"kubectl": Path("/bin/kubectl")}, **options).to_json())
    return folder


def test_down_all_ends_every_cluster_of_this_environment_and_no_other(home: Path) -> None:
    for name in ("demo", "default"):
        remains_of(StateFolder.of(name))
    foreign = remains_of(StateFolder.of("foreign"), environment=Path("/another/.venv"))
    unreadable = StateFolder.of("unreadable")
    unreadable.create()
    result = CliRunner().invoke(main, ["down", "--all"])
    assert [line.partition(" was up")[0] for line in result.output.splitlines()] == [
        "no cluster 'default'",
        "no cluster 'demo'",
    ]
    assert sorted(home.iterdir()) == [foreign.root, unreadable.root]
    assert CliRunner().invoke(main, ["down", "--all"]).output == "no cluster of this environment was up\n"


def test_down_all_ends_a_cluster_of_another_version_of_this_environment(home: Path) -> None:
    older = remains_of(StateFolder.of("older"))
    older.config.write_text(json.dumps({"environment": sys.prefix, "no longer": "an option"}))
    assert "no cluster 'older' was up; the remains" in CliRunner().invoke(main, ["down", "--all"]).output
    assert not older.root.exists()


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"environment": 1}'])
def test_down_all_fails_where_a_cluster_runs_that_may_be_of_this_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    remains_of(StateFolder.of("ours"))
    unclaimed = StateFolder.of("unclaimed")
    unclaimed.create()
    if content is not None:
        unclaimed.config.write_text(content)
    monkeypatch.setattr(launch, "running", lambda folder: ProcessIdentity(1, 0, "") if folder == unclaimed else None)
    result = CliRunner().invoke(main, ["down", "--all"])
    assert result.exit_code == 1
    assert f"{unclaimed.root}: `{own_command('unclaimed')} down` ends it\n" in result.output
    assert list(home.iterdir()) == [unclaimed.root], "its own all the same"


def test_the_command_is_named_so_that_it_can_be_typed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(home / "checkout" / ".venv"))
    assert own_command("demo") == f"{home}/checkout/.venv/bin/diffusion-local --name demo"
    (home / "checkout").mkdir()
    monkeypatch.chdir(home / "checkout")
    assert own_command("demo") == ".venv/bin/diffusion-local --name demo"
    monkeypatch.setattr(sys, "prefix", "/with a space/.venv")
    assert own_command("demo") == "'/with a space/.venv/bin/diffusion-local' --name demo"


class TestWordsOfAnotherProgram:
    """What stands behind `kubectl` and `helm` is theirs, word for word."""

    @pytest.fixture
    def became(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
        """Which cluster and words were passed on, with clusters that are always there."""
        passed: list[tuple[str, tuple[str, ...]]] = []

        def become(cluster: Cluster, _: Path, args: tuple[str, ...]) -> None:
            passed.append((cluster.folder.name, args))

        monkeypatch.setattr(Cluster, "find", lambda name: Cluster(remains_of(StateFolder.of(name))))
        monkeypatch.setattr(command, "ensure", lambda names, _: dict.fromkeys(names, Path("/bin/helm")))
        monkeypatch.setattr(command, "_replace_by", become)
        return passed

    @pytest.mark.parametrize("program", ["kubectl", "helm"])
    @pytest.mark.parametrize(
        "words",
        [
            ("create", "job", "j", "--image=x", "--", "sleep", "1"),
            ("expose", "deployment", "web", "--name=web", "--port=80"),
            ("--help",),
            (),
        ],
    )
    def test_they_are_passed_on(
        self, became: list[tuple[str, tuple[str, ...]]], program: str, words: tuple[str, ...]
    ) -> None:
        assert CliRunner().invoke(main, [program, *words]).exit_code == 0
        assert became == [("default", words)]

    def test_the_cluster_stands_before_them_or_in_the_environment(
        self, became: list[tuple[str, tuple[str, ...]]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(VARIABLE, "one")
        CliRunner().invoke(main, ["kubectl", "get"])
        CliRunner().invoke(main, ["--name", "two", "kubectl", "get", "--name=three"])
        assert became == [("one", ("get",)), ("two", ("get", "--name=three"))]

    def test_logs_of_pods_are_those_of_kubectl(self, became: list[tuple[str, tuple[str, ...]]]) -> None:
        asked = ["logs", "web-1", "-f", "--tail", "3", "-n", "shop", "-c", "main", "-p"]
        assert CliRunner().invoke(main, asked).exit_code == 0
        said = ["logs", "web-1", "-f", "-p", "--tail", "3", "-n", "shop", "-c", "main"]
        assert [(name, list(args)) for name, args in became] == [("default", said)]

    def test_commands_of_our_own_take_it_at_either_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def said(*words: str) -> str:
            return CliRunner().invoke(main, words).output

        monkeypatch.setenv(VARIABLE, "one")
        assert "'one'" in said("status")
        assert "'two'" in said("--name", "two", "status")
        assert "'three'" in said("--name", "two", "status", "--name", "three")


def test_logs_of_a_cluster_that_did_not_start_can_be_read(home: Path) -> None:
    folder = remains_of(StateFolder.of("default"))
    (folder.logs / "supervisor.log").write_text("why\n")
    assert CliRunner().invoke(main, ["logs", "supervisor"]).output == "why\n"


def test_a_cluster_whose_files_cannot_be_read_is_an_error_with_the_remedy(home: Path) -> None:
    folder = remains_of(StateFolder.of("default"))
    folder.config.write_text('{"from": "the future"}')
    with pytest.raises(LocalClusterError, match=re.escape(f"`{own_command('default')} down` ends it")):
        Cluster(folder)
