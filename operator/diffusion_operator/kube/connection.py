"""Where the API server is and who we are to it: from a kubeconfig, or from the pod that we run in.

Written here rather than taken from the official client because that costs 35 MiB of memory in every operator; only a
kubeconfig that asks for a login plugin loads it.
"""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 30.0


class NoConnection(Exception):
    """Neither a usable kubeconfig nor a service account was found; says what was looked for."""


@dataclass
class Connection:
    """One API server and one identity. PEM texts stand in memory; `read_token` gives the token that is good now."""

    server: str
    namespace: str = "default"
    ca: str | None = None
    client_certificate: str | None = None
    client_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    read_token: Callable[[], str | None] | None = field(default=None, repr=False)
    verify: bool = True
    _token_read: float = field(default=float("-inf"), repr=False)

    def ssl_context(self) -> ssl.SSLContext:
        """TLS as this connection asks for it. Key material touches the disk only in a private file, for an instant."""
        context = ssl.create_default_context(cadata=self.ca)
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.client_certificate and self.client_key:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
                both.write(f"{self.client_certificate.strip()}\n{self.client_key.strip()}\n")
                both.flush()
                context.load_cert_chain(both.name)
        return context

    def authorization(self) -> Mapping[str, str]:
        """The Authorization header, or none where the client certificate says who we are."""
        if self.read_token is not None and time.monotonic() - self._token_read > _TOKEN_SECONDS:
            self.token = self.read_token()
            self._token_read = time.monotonic()
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def connect(kubeconfig: str | None = None, context: str | None = None) -> Connection:
    """The first that is there of `kubeconfig`, $KUBECONFIG, the pod that we run in, and ~/.kube/config.

    Of several files in $KUBECONFIG the first one counts. Raises NoConnection.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return _in_cluster()
    path = Path(named.split(os.pathsep)[0] if named else "~/.kube/config").expanduser()
    if not path.is_file():
        raise NoConnection(f"no kubeconfig at {path}, and this is not a pod: set KUBECONFIG to a kubeconfig file")
    return _from_kubeconfig(path, context)


def _in_cluster() -> Connection:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return Connection(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        namespace=(SERVICE_ACCOUNT / "namespace").read_text().strip(),
        ca=(SERVICE_ACCOUNT / "ca.crt").read_text(),
        read_token=_file_reader(SERVICE_ACCOUNT / "token"),
    )


def _from_kubeconfig(path: Path, wanted: str | None) -> Connection:
    config = _read(path)
    context = _named(config, "contexts", wanted or config.get("current-context"), path).get("context") or {}
    cluster = _named(config, "clusters", context.get("cluster"), path).get("cluster") or {}
    user = _named(config, "users", context.get("user"), path).get("user") or {}
    return Connection(
        server=str(cluster.get("server", "")).rstrip("/"),
        namespace=context.get("namespace") or "default",
        ca=_material(cluster, "certificate-authority", path),
        client_certificate=_material(user, "client-certificate", path),
        client_key=_material(user, "client-key", path),
        token=user.get("token"),
        read_token=_token_reader(user, path, wanted),
        verify=not cluster.get("insecure-skip-tls-verify", False),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise NoConnection(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, Mapping):
        raise NoConnection(f"{path} is not a kubeconfig: it has no clusters, users and contexts")
    return config


def _named(config: Mapping[str, Any], section: str, name: str | None, path: Path) -> Mapping[str, Any]:
    entries = config.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and entry.get("name") == name:
            return dict(entry)
    raise NoConnection(f"{path} has no {section[:-1]} named {name!r}")


def _material(entry: Mapping[str, Any], name: str, path: Path) -> str | None:
    if data := entry.get(f"{name}-data"):
        return base64.b64decode(data).decode()
    return (path.parent / entry[name]).read_text() if entry.get(name) else None


def _token_reader(user: Mapping[str, Any], path: Path, context: str | None) -> Callable[[], str | None] | None:
    """What reads the token of a kubeconfig's user anew; None where it stands in the kubeconfig, or there is none."""
    if "exec" in user or "auth-provider" in user:
        return _plugin_reader(path, context)
    return _file_reader(path.parent / user["tokenFile"]) if user.get("tokenFile") else None


def _file_reader(path: Path) -> Callable[[], str]:
    return lambda: path.read_text().strip()


def _plugin_reader(path: Path, context: str | None) -> Callable[[], str | None]:
    """The official client runs the login plugin again when the token that it gave is about to end."""
    from kubernetes import config as official

    try:
        configuration = official.new_client_from_config(str(path), context).configuration
    except official.ConfigException as error:
        raise NoConnection(f"{path} cannot be used: {error}") from error

    def read() -> str | None:
        header = configuration.get_api_key_with_prefix("BearerToken", "authorization") or ""
        return str(header).removeprefix("Bearer ").strip() or None

    if read() is None:
        raise NoConnection(f"{path}: the login plugin of its user gave no token")
    return read
