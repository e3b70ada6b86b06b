import pytest
from click.testing import CliRunner

from diffusion_operator.cli import kubectl_plugin
from diffusion_operator.cli.cluster_reader import ClusterReader, NotThere, Unreadable

TRAINING = {
    "kind": "DiffusionTraining",
    "metadata": {"name": "digits", "namespace": "team", "uid": "1"},
    "spec": {"training": {"targetSteps": 200}},
    "status": {"phase": "Running"},
}
SERVICE = {"kind": "DiffusionService", "metadata": {"name": "digits", "namespace": "team", "uid": "2"}, "spec": {}}


class FakeReader(ClusterReader):
    """A reader of two objects with the same name, in place of a cluster."""

    failure: Exception | None = None

    def __init__(self, kubeconfig, context, namespace):
        self.namespace = namespace or "team"

    def list(self, namespace):
        if FakeReader.failure:
            raise FakeReader.failure
        return [item for item in (TRAINING, SERVICE) if namespace in (None, item["metadata"]["namespace"])]

    def pods(self, item):
        return []

    def events(self, item):
        return []


@pytest.fixture
def plugin(monkeypatch):
    monkeypatch.setattr(kubectl_plugin, "ClusterReader", FakeReader)
    monkeypatch.setattr(FakeReader, "failure", None)
    return lambda *args: CliRunner().invoke(kubectl_plugin.main, args)


def test_describe_shows_both_kinds_by_that_name_or_the_one_that_is_asked_for(plugin):
    both = plugin("describe", "digits")
    assert both.exit_code == 0
    assert "DiffusionTraining" in both.output
    assert "DiffusionService" in both.output
    assert "DiffusionService" not in plugin("describe", "digits", "--kind", "training").output


def test_a_name_that_is_not_there_is_bad_input(plugin):
    result = plugin("describe", "nope", "-n", "team")
    assert result.exit_code == 2
    assert "no diffusion training or service called 'nope' in the namespace 'team'" in result.output


def test_an_api_server_that_says_no_is_exit_code_1(plugin):
    FakeReader.failure = Unreadable("diffusiontrainings cannot be read: 403 Forbidden")
    result = plugin("list")
    assert result.exit_code == 1
    assert "403 Forbidden" in result.output


def test_an_empty_namespace_says_so(plugin):
    result = plugin("list", "-n", "empty")
    assert result.exit_code == 0
    assert "No diffusion trainings or services here." in result.output


def test_all_namespaces_are_listed_with_their_names(plugin):
    assert "NAMESPACE" in plugin("list", "-A").output


def test_without_a_name_the_usage_is_shown(plugin):
    assert plugin("describe").exit_code == 2


def test_a_kubeconfig_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(NotThere, match="no usable kubeconfig"):
        ClusterReader(str(tmp_path / "none"), None, None)


@pytest.mark.parametrize("content", [b"clusters: [", b"\xff\xfe", b"", b"- clusters", b"contexts: none"])
def test_a_file_that_is_no_kubeconfig_is_one_line_and_bad_input(tmp_path, content):
    path = tmp_path / "config"
    path.write_bytes(content)
    result = CliRunner().invoke(kubectl_plugin.main, ["list", "--kubeconfig", str(path)])
    assert result.exit_code == 2
    assert "\nError: no usable kubeconfig: " in result.output
    assert "Traceback" not in result.output
