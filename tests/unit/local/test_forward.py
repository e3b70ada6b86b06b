"""What a client says before the other end of a forwarded connection stands arrives there all the same."""

import asyncio
import socket
from typing import Any

import pytest

from diffusion_local.forward import serve_socket

TURNS = 20
"""Of the event loop, in which a connection is still being made."""


def begins_to_read_at_once(transport: Any, descriptor: int, *callback: Any) -> None:
    """As Python 3.11.2 does it: whether reading was paused is not asked."""
    transport._loop._add_reader(descriptor, *callback)


@pytest.fixture
def slow_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = asyncio.BaseEventLoop.create_connection

    async def slowly(self: asyncio.BaseEventLoop, *args: Any, **options: Any) -> Any:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return await connect(self, *args, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", slowly)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    writer.close()


@pytest.mark.usefixtures("slow_connections")
@pytest.mark.parametrize("python", ["this one", "3.11.2"])
async def test_a_client_that_speaks_first_is_heard(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if python == "3.11.2":
        monkeypatch.setattr("asyncio.selector_events._SelectorTransport._add_reader", begins_to_read_at_once)
    target = await asyncio.start_server(echo, "127.0.0.1", 0)
    listening = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        forward = await serve_socket(listening, lambda: target.sockets[0].getsockname())
        async with asyncio.timeout(60):
            client.setblocking(False)
            answer = b"".join([part async for part in parts(client)])
    assert answer == b"hello"
    for server in (forward, target):
        server.close()
        await server.wait_closed()


async def parts(client: socket.socket) -> Any:
    """What the client hears, until the other side says no more."""
    while part := await asyncio.get_running_loop().sock_recv(client, 4096):
        yield part
