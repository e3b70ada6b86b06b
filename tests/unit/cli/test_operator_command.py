from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from diffusion_operator.cli.operator_command import VERSION, main
from diffusion_operator.kube.connection import Connection
from diffusion_operator.loop.settings import OperatorSettings

Started = Callable[..., tuple[Result, OperatorSettings, Connection]]

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: c, user: u, namespace: team}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: secret}}]
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    """Run the command with arguments; returns the settings and connection that it would have served with."""
    from diffusion_operator.loop import process

    seen: dict[str, Any] = {}

    class Noted:
        def __init__(self, settings: OperatorSettings, connection: Connection) -> None:
            seen.update(settings=settings, connection=connection)

        async def run(self) -> int:
            return 0

    monkeypatch.setattr(process, "OperatorProcess", Noted)
    (tmp_path / "config").write_text(KUBECONFIG)
    base = {"KUBECONFIG": str(tmp_path / "config"), "POD_NAME": "", "POD_NAMESPACE": "", "DIFFUSION_AGENT_URL": ""}

    def start(*args: str, **env: str) -> tuple[Result, Any, Any]:
        result = CliRunner().invoke(main, ["run", *args], env={**base, **env})
        return result, seen.get("settings"), seen.get("connection")

    return start


def test_version_and_help_answer_at_once() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"diffusion-operator, version {VERSION}\n"
    shown = CliRunner().invoke(main, ["run", "--help"])
    assert shown.exit_code == 0
    assert "DIFFUSION_TRAINER_IMAGE" in shown.output


def test_without_any_option_it_serves_all_namespaces_from_the_context_s_own(started: Started) -> None:
    result, settings, connection = started()
    assert result.exit_code == 0, result.output
    assert (settings.namespace, settings.namespaces) == ("team", ())
    assert settings.agent_url == "https://diffusion-operator-agents.team.svc:8443"
    assert settings.trainer_image == f"diffusion-operator/trainer:{VERSION}"
    assert (connection.server, connection.token) == ("http://127.0.0.1:1", "secret")


def test_every_setting_can_come_from_the_environment(started: Started) -> None:
    _, settings, _ = started(
        POD_NAME="op-1",
        POD_NAMESPACE="system",
        DIFFUSION_WATCH_NAMESPACES="a, b,",
        DIFFUSION_AGENT_URL="https://agents.example:1234",
        DIFFUSION_ROUTER_IMAGE="router:2",
        DIFFUSION_METRICS_SECURE="false",
        DIFFUSION_HEALTH_PORT="1",
    )
    assert settings.pod_name == "op-1"
    assert settings.identity.startswith("op-1_")
    assert (settings.namespace, settings.namespaces) == ("system", ("a", "b"))
    assert settings.agent_url == "https://agents.example:1234"
    assert settings.router_image == "router:2"
    assert (settings.metrics_secure, settings.health_port) == (False, 1)


def test_two_processes_of_one_pod_are_two_identities(started: Started) -> None:
    identities = {started(POD_NAME="op-1")[1].identity for _ in range(2)}
    assert len(identities) == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--agent-url", "http://plain:1"], "not of the form https://HOST:PORT"),
        (["--workers", "0"], "0 is not in the range"),
        (["--kubeconfig", "/nowhere/config"], "no kubeconfig at /nowhere/config"),
        (["--context", "elsewhere"], "no context named 'elsewhere'"),
        (["--log-level", "loud"], "'loud' is not one of"),
    ],
)
def test_bad_input_is_named_with_exit_code_2(started: Started, args: list[str], said: str) -> None:
    result, _, _ = started(*args)
    assert result.exit_code == 2
    assert said in result.output
