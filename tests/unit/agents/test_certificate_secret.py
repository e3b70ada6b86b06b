"""Certificates in a Secret: one set for two operators, and new ones in a running server."""

import asyncio
import base64
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from diffusion_operator.agents.certificate_secret import CertificateSecret
from diffusion_operator.agents.tls import SERVER_LIFE, AgentCertificates
from diffusion_operator.kube.errors import Unreachable
from diffusion_operator.loop.listening import listen_on
from one_object_api import OneObjectApi


class SecretServer(OneObjectApi):
    """One Secret; every request lets the others go first."""

    down = 0
    """How many requests fail from now on."""

    async def arrive(self) -> None:
        """See OneObjectApi.arrive."""
        await asyncio.sleep(0)
        self.fail_when_down()

    def fail_when_down(self) -> None:
        if self.down:
            self.down -= 1
            raise Unreachable("down")


class MovableClock:
    def __init__(self) -> None:
        self.moment = datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment


def secret_of(server: SecretServer, clock: MovableClock | None = None) -> CertificateSecret:
    return CertificateSecret(server, "ns", "tls", "localhost", clock or MovableClock())


async def test_two_operators_at_once_end_up_with_one_set() -> None:
    server = SecretServer()
    one, other = await asyncio.gather(secret_of(server).current(), secret_of(server).current())
    assert one == other
    assert len(server.writes) == 1


async def test_two_operators_that_renew_at_once_end_up_with_one_set() -> None:
    server, clock = SecretServer(), MovableClock()
    before = await secret_of(server).current()
    clock.moment += SERVER_LIFE
    one, other = await asyncio.gather(secret_of(server, clock).current(), secret_of(server, clock).current())
    assert one == other
    assert one.server != before.server
    assert len(server.writes) == 2


async def test_the_empty_secret_of_the_chart_is_filled_and_keeps_its_labels() -> None:
    metadata = {"name": "tls", "namespace": "ns", "labels": {"app.kubernetes.io/managed-by": "Helm"}}
    server = SecretServer({"metadata": metadata, "type": "Opaque"})
    made = await secret_of(server).current()
    assert AgentCertificates.from_data(server.stored["data"]) == made
    assert server.stored["metadata"]["labels"] == metadata["labels"]


async def test_a_damaged_secret_is_replaced_as_a_whole() -> None:
    server = SecretServer()
    before = await secret_of(server).current()
    server.stored["data"]["tls.key"] = base64.b64encode(b"\xff\xfe").decode()
    after = await secret_of(server).current()
    assert after != before
    assert AgentCertificates.from_data(server.stored["data"]) == after


async def test_a_running_server_shows_the_new_certificate_to_new_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    server, clock = SecretServer(), MovableClock()
    clock.moment -= timedelta(days=80)  # So that the new certificate is valid already.
    secret = secret_of(server, clock)
    first = await secret.current()
    context = first.server_context()
    looks: list[float] = []

    async def next_hour(seconds: float) -> None:
        looks.append(seconds)
        clock.moment += timedelta(days=20)
        server.down = 1 if len(looks) == 1 else 0

    runner, port = await listen_on(web.Application(), "127.0.0.1", 0, context)
    try:
        assert await asyncio.to_thread(shown, port, first.trusted) == der(first.server.certificate)
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "sleep", next_hour)
            patched.setattr(SecretServer, "arrive", arrive_without_a_pause)
            second = await secret.keep(context, first)
        assert len(looks) == 3, "down, in order, due"
        assert second.server != first.server
        assert await asyncio.to_thread(shown, port, second.trusted) == der(second.server.certificate)
    finally:
        await runner.cleanup()


async def arrive_without_a_pause(server: SecretServer) -> None:
    server.fail_when_down()


def shown(port: int, trusted: str) -> bytes | None:
    """The certificate that a server shows to those who trust this authority."""
    context = ssl.create_default_context(cadata=trusted)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True)


def der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)
