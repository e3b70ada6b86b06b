"""Certificates in a Secret: one set for two operators, and new ones in a running server."""

import asyncio
import base64
import socket
import ssl
from datetime import UTC, datetime, timedelta

from aiohttp import web

from diffusion_operator.agents import certificate_secret
from diffusion_operator.agents.certificate_secret import CertificateSecret
from diffusion_operator.agents.tls import SERVER_LIFE, AgentCertificates
from diffusion_operator.kube.errors import Unreachable, refusal
from diffusion_operator.loop.listening import listen_on


class SecretServer:
    """One Secret with optimistic concurrency; every request lets the others go first."""

    def __init__(self, secret=None):
        self.secret, self.version, self.writes, self.down = secret, 0, 0, 0

    async def get(self, resource, namespace, name):
        await asyncio.sleep(0)
        if self.down:
            self.down -= 1
            raise Unreachable("down")
        return self.secret

    async def create(self, resource, manifest):
        await asyncio.sleep(0)
        if self.secret is not None:
            raise refusal(409, "AlreadyExists", "there")
        return self._store(manifest)

    async def replace(self, resource, manifest, subresource=""):
        await asyncio.sleep(0)
        if manifest["metadata"].get("resourceVersion") != self.secret["metadata"].get("resourceVersion"):
            raise refusal(409, "Conflict", "changed")
        return self._store(manifest)

    def _store(self, manifest):
        self.version += 1
        self.writes += 1
        self.secret = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        return self.secret


class MovableClock:
    def __init__(self):
        self.moment = datetime.now(UTC)

    def now(self):
        return self.moment


def secret_of(server, clock=None):
    return CertificateSecret(server, "ns", "tls", "localhost", clock or MovableClock())


async def test_two_operators_at_once_end_up_with_one_set():
    server = SecretServer()
    one, other = await asyncio.gather(secret_of(server).current(), secret_of(server).current())
    assert one == other
    assert server.writes == 1


async def test_two_operators_that_renew_at_once_end_up_with_one_set():
    server, clock = SecretServer(), MovableClock()
    before = await secret_of(server).current()
    clock.moment += SERVER_LIFE
    one, other = await asyncio.gather(secret_of(server, clock).current(), secret_of(server, clock).current())
    assert one == other
    assert one.server != before.server
    assert server.writes == 2


async def test_the_empty_secret_of_the_chart_is_filled_and_keeps_its_labels():
    metadata = {"name": "tls", "namespace": "ns", "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    server = SecretServer({"metadata": metadata, "type": "Opaque"})
    made = await secret_of(server).current()
    assert AgentCertificates.from_data(server.secret["data"]) == made
    assert server.secret["metadata"]["labels"] == metadata["labels"]


async def test_a_damaged_secret_is_replaced_as_a_whole():
    server = SecretServer()
    before = await secret_of(server).current()
    server.secret["data"]["tls.key"] = base64.b64encode(b"\xff\xfe").decode()
    after = await secret_of(server).current()
    assert after != before
    assert AgentCertificates.from_data(server.secret["data"]) == after


async def test_a_running_server_shows_the_new_certificate_to_new_connections(monkeypatch):
    server, clock = SecretServer(), MovableClock()
    clock.moment -= timedelta(days=80)  # So that the new certificate is valid already.
    secret = secret_of(server, clock)
    first = await secret.current()
    context = first.server_context()
    looks = []

    async def next_hour(seconds):
        looks.append(seconds)
        clock.moment += timedelta(days=20)
        server.down = 1 if len(looks) == 1 else 0

    runner, port = await listen_on(web.Application(), "127.0.0.1", 0, context)
    try:
        assert await asyncio.to_thread(shown, port, first.trusted) == der(first.server.certificate)
        with monkeypatch.context() as patched:
            patched.setattr(certificate_secret.asyncio, "sleep", next_hour)
            patched.setattr(SecretServer, "get", quick_get)
            second = await secret.keep(context, first)
        assert len(looks) == 4, "down, in order, in order, due"
        assert second.server != first.server
        assert await asyncio.to_thread(shown, port, second.trusted) == der(second.server.certificate)
    finally:
        await runner.cleanup()


async def quick_get(self, resource, namespace, name):
    if self.down:
        raise Unreachable("down")
    return self.secret


def shown(port, trusted):
    """The certificate that a server shows to those who trust this authority."""
    context = ssl.create_default_context(cadata=trusted)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True)


def der(pem):
    return ssl.PEM_cert_to_DER_cert(pem)
