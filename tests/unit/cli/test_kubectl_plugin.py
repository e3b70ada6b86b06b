from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from diffusion_operator.cli import kubectl_plugin
from diffusion_operator.cli.cluster_reader import ClusterReader, NotThere, Unreadable, _printable
from diffusion_operator.observe.snapshot import Raw

Plugin = Callable[..., Result]
"""Runs the plugin with arguments."""

TRAINING: dict[str, Any] = {
    "kind": "DiffusionTraining",
    "metadata": {"name": "digits", "namespace": "team", "uid": "1"},
    "spec": {"training": {"targetSteps": 200}},
    "status": {"phase": "Running"},
}
SERVICE: dict[str, Any] = {
    "kind": "DiffusionService",
    "metadata": {"name": "digits", "namespace": "team", "uid": "2"},
    "spec": {},
}


class FakeReader(ClusterReader):
    """A reader of two objects with the same name, in place of a cluster."""

    failure: Exception | None = None

    def __init__(self, kubeconfig: str | None, context: str | None, namespace: str | None) -> None:
        self.namespace = namespace or "team"

    def list(self, namespace: str | None) -> list[Raw]:
        if FakeReader.failure:
            raise FakeReader.failure
        return [item for item in (TRAINING, SERVICE) if namespace in (None, item["metadata"]["namespace"])]

    def pods(self, item: Raw) -> Sequence[Raw]:
        return []

    def events(self, item: Raw) -> Sequence[Raw]:
        return []


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    monkeypatch.setattr(kubectl_plugin, "ClusterReader", FakeReader)
    monkeypatch.setattr(FakeReader, "failure", None)
    return lambda *args: CliRunner().invoke(kubectl_plugin.main, args)


def test_describe_shows_both_kinds_by_that_name_or_the_one_that_is_asked_for(plugin: Plugin) -> None:
    both = plugin("describe", "digits")
    assert both.exit_code == 0
    assert "DiffusionTraining" in both.output
    assert "DiffusionService" in both.output
    assert "DiffusionService" not in plugin("describe", "digits", "--kind", "training").output


TRAININGS = ["training", "trainings", "dt", "DT", "DiffusionTraining", "diffusiontrainings", "dt.diffusion.dev"]
SERVICES = ["service", "services", "dsv", "diffusionservice", "diffusionservices.v1alpha1.diffusion.dev"]


@pytest.mark.parametrize("word", TRAININGS + SERVICES)
def test_describe_takes_a_kind_as_kubectl_does(plugin: Plugin, word: str) -> None:
    alone = plugin("describe", "digits", "--kind", "training" if word in TRAININGS else "service")
    for words in ([word, "digits"], [f"{word}/digits"]):
        shown = plugin("describe", *words)
        assert (shown.exit_code, shown.output) == (0, alone.output)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pod", "digits"], "'pod' is no kind: write training (dt) or service (dsv), or the name alone"),
        (["pod/digits"], "'pod' is no kind"),
        (["dt/a/b"], "name one thing, as NAME, KIND NAME or KIND/NAME"),
        (["dt", "a", "b"], "name one thing, as NAME, KIND NAME or KIND/NAME"),
        (["dt", "dsv/a"], "name one thing, as NAME, KIND NAME or KIND/NAME"),
        (["dt/"], "name one thing, as NAME, KIND NAME or KIND/NAME"),
        (["/digits"], "'' is no kind"),
        ([""], "name one thing, as NAME, KIND NAME or KIND/NAME"),
        (["dt", "digits", "--kind", "service"], "'dt' and --kind service are two kinds: leave one of them out"),
        (["dt"], "called 'dt' in the namespace 'team' (a name goes after the kind: dt NAME)"),
        (["dsv/nope"], "there is no diffusion service called 'nope' in the namespace 'team'"),
    ],
)
def test_words_that_name_nothing_are_bad_input_with_the_remedy(plugin: Plugin, words: list[str], said: str) -> None:
    refused = plugin("describe", *words)
    assert refused.exit_code == 2
    assert said in refused.output


def test_no_line_is_filled_up_with_blanks_in_a_pipe(plugin: Plugin) -> None:
    for words in (["describe", "digits"], ["list"]):
        lines = plugin(*words).output.splitlines()
        assert len(lines) > 2
        assert [line for line in lines if line != line.rstrip()] == []


def test_a_name_that_is_not_there_is_bad_input(plugin: Plugin) -> None:
    result = plugin("describe", "nope", "-n", "team")
    assert result.exit_code == 2
    assert "no diffusion training or service called 'nope' in the namespace 'team'" in result.output


def test_an_api_server_that_says_no_is_exit_code_1(plugin: Plugin) -> None:
    FakeReader.failure = Unreadable("diffusiontrainings cannot be read: 403 Forbidden")
    result = plugin("list")
    assert result.exit_code == 1
    assert "403 Forbidden" in result.output


def test_an_empty_namespace_says_so(plugin: Plugin) -> None:
    result = plugin("list", "-n", "empty")
    assert result.exit_code == 0
    assert "No diffusion trainings or services here." in result.output


def test_all_namespaces_are_listed_with_their_names(plugin: Plugin) -> None:
    assert "NAMESPACE" in plugin("list", "-A").output


def test_what_an_object_says_is_shown_as_it_stands_and_whole_in_a_pipe(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"[/x] it has [block_out_channels], not a:100:b: {'é' * 300}"
    long = "d" * 63
    item = {**TRAINING, "metadata": {**TRAINING["metadata"], "name": long}, "status": {"message": said}}
    monkeypatch.setattr(FakeReader, "list", lambda *_: [item])
    assert said in plugin("describe", long).output
    assert long in plugin("list").output


def test_in_a_terminal_nothing_is_cut(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = f"pvc://digits-models/digits@sha256:{'0123456789abcdef' * 4}"
    item = {**TRAINING, "status": {"published": {"reference": reference}}}
    monkeypatch.setattr(FakeReader, "list", lambda *_: [item])
    monkeypatch.setattr(kubectl_plugin, "PIPE_WIDTH", 80)
    assert reference in "".join(plugin("describe", "digits").output.split())


def test_no_object_commands_the_terminal() -> None:
    item = {"name": "\x1b]0;title\x07", "list": ["a\x9b2J", 1, None], "message": "two\nlines\té"}
    assert _printable(item) == {"name": "\\x1b]0;title\\x07", "list": ["a\\x9b2J", 1, None], "message": "two\nlines\té"}


def test_without_a_name_the_usage_is_shown(plugin: Plugin) -> None:
    assert plugin("describe").exit_code == 2


def test_a_kubeconfig_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="no usable kubeconfig"):
        ClusterReader(str(tmp_path / "none"), None, None)


@pytest.mark.parametrize("content", [b"clusters: [", b"\xff\xfe", b"", b"- clusters", b"contexts: none"])
def test_a_file_that_is_no_kubeconfig_is_one_line_and_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    result = CliRunner().invoke(kubectl_plugin.main, ["list", "--kubeconfig", str(path)])
    assert result.exit_code == 2
    assert "\nError: no usable kubeconfig: " in result.output
    assert "Traceback" not in result.output
