import base64
import json
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from diffusion_operator.agents.tls import Pair, renewed
from diffusion_operator.kube import connection as connection_module
from diffusion_operator.kube.connection import NoConnection, connect

VERSION = "client.authentication.k8s.io/v1"


def kubeconfig(
    tmp_path: Path, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **more: Any
) -> str:
    config = {
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
            {"name": "plain", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://api:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        **more,
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def pair() -> Pair:
    return renewed(None, "api", datetime.now(UTC)).server


def test_a_kubeconfig_with_data_in_it(tmp_path: Path) -> None:
    made = pair()
    user = {
        "client-certificate-data": base64.b64encode(made.certificate.encode()).decode(),
        "client-key-data": base64.b64encode(made.key.encode()).decode(),
    }
    found = connect(kubeconfig(tmp_path, user))
    assert (found.server, found.namespace) == ("https://api:6443", "team")
    assert found.client_key == made.key
    assert found.authorization() == {}
    assert isinstance(found.ssl_context(), ssl.SSLContext)


def test_files_are_found_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(pair().certificate)
    found = connect(kubeconfig(tmp_path, {"token": "t"}, {"certificate-authority": "ca.crt"}))
    assert found.ca is not None
    assert found.ca.startswith("-----BEGIN CERTIFICATE")
    assert found.authorization() == {"Authorization": "Bearer t"}


def test_another_context_can_be_asked_for(tmp_path: Path) -> None:
    assert connect(kubeconfig(tmp_path), "plain").namespace == "default"
    with pytest.raises(NoConnection, match="no context named 'other'"):
        connect(kubeconfig(tmp_path), "other")


def test_a_user_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoConnection, match="no user named 'u'"):
        connect(kubeconfig(tmp_path, users=[]))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoConnection, match=f"no kubeconfig at {tmp_path}/none"):
        connect(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"clusters: [", "is not YAML: while parsing"),
        (b"\xff\xfe", "is not YAML"),
        (b"", "is not a kubeconfig"),
        (b"- clusters", "is not a kubeconfig"),
        (b"contexts: none", "has no context named None"),
        (b"contexts: [none]", "has no context named None"),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_named_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    with pytest.raises(NoConnection, match=f"{path} {said}") as raised:
        connect(str(path))
    assert "\n" not in str(raised.value)


def test_what_proves_who_we_are_is_never_printed(tmp_path: Path) -> None:
    made = pair()
    key = base64.b64encode(made.key.encode()).decode()
    printed = repr(connect(kubeconfig(tmp_path, {"token": "do-not-tell", "client-key-data": key}))) + repr(made)
    assert "do-not-tell" not in printed
    assert "PRIVATE KEY" not in printed


def test_without_verification_nothing_is_checked(tmp_path: Path) -> None:
    context = connect(kubeconfig(tmp_path, cluster={"insecure-skip-tls-verify": True})).ssl_context()
    assert context.verify_mode is ssl.CERT_NONE


def test_in_a_pod_the_service_account_is_used_and_its_token_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("token", "one\n"), ("namespace", "system"), ("ca.crt", pair().certificate)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(connection_module, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("KUBECONFIG", "")
    now = [1.0]  # seconds since the machine was started
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    found = connect()
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "system")
    assert found.authorization() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two")
    assert found.authorization() == {"Authorization": "Bearer one"}
    now[0] += 60
    assert found.authorization() == {"Authorization": "Bearer two"}


def test_a_login_plugin_is_run_again_when_its_token_is_about_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    said = tmp_path / "said.json"

    def says(token: str, ends: str) -> None:
        status = {"token": token, "expirationTimestamp": ends}
        said.write_text(json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status}))

    says("one", "2026-01-01T00:00:00Z")
    plugin = {"apiVersion": VERSION, "command": "cat", "args": [str(said)], "interactiveMode": "Never"}
    found = connect(kubeconfig(tmp_path, {"exec": plugin}))
    says("two", "2999-01-01T00:00:00Z")
    assert found.authorization() == {"Authorization": "Bearer two"}, "the first one had ended already"
    says("three", "2999-01-01T00:00:00Z")
    now[0] += 60
    assert found.authorization() == {"Authorization": "Bearer two"}


def test_a_login_plugin_that_gives_no_token_is_said_at_once(tmp_path: Path) -> None:
    plugin = {"apiVersion": VERSION, "command": "false", "interactiveMode": "Never"}
    with pytest.raises(NoConnection, match="the login plugin of its user gave no token"):
        connect(kubeconfig(tmp_path, {"exec": plugin}))
