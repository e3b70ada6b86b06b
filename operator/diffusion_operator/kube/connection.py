"""Where the API server is and who we are to it: from a kubeconfig, or from the pod that we run in.

Written here rather than taken from the official client because that costs 35 MiB of memory in every operator; only a
kubeconfig that asks for a login plugin loads it.
"""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
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
    """One API server and one identity. PEM texts stand in memory; `token_file` is read again as it is replaced."""

    server: str
    namespace: str = "default"
    ca: str | None = None
    client_certificate: str | None = None
    client_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
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
        if self.token_file is not None and time.monotonic() - self._token_read > _TOKEN_SECONDS:
            self.token = self.token_file.read_text().strip()
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
        token_file=SERVICE_ACCOUNT / "token",
    )


def _from_kubeconfig(path: Path, wanted: str | None) -> Connection:
    config = _read(path)
    context = _named(config, "contexts", wanted or config.get("current-context"), path).get("context") or {}
    cluster = _named(config, "clusters", context.get("cluster"), path).get("cluster") or {}
    user = _named(config, "users", context.get("user"), path).get("user") or {}
    token_file = user.get("tokenFile")
    return Connection(
        server=str(cluster.get("server", "")).rstrip("/"),
        namespace=context.get("namespace") or "default",
        ca=_material(cluster, "certificate-authority", path),
        client_certificate=_material(user, "client-certificate", path),
        client_key=_material(user, "client-key", path),
        token=_plugin_token(path, wanted) if "exec" in user or "auth-provider" in user else user.get("token"),
        token_file=path.parent / token_file if token_file else None,
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


def _plugin_token(path: Path, context: str | None) -> str | None:
    from kubernetes import config as official

    configuration = official.new_client_from_config(str(path), context).configuration
    header = configuration.get_api_key_with_prefix("authorization") or ""
    return str(header).removeprefix("Bearer ").strip() or None
