"""Orders to a node: one line in, one line out."""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from diffusion_local import control
from diffusion_local.node.control_socket import ControlSocket


def test_an_order_that_fails_is_answered_with_the_reason(tmp_path: Path) -> None:
    async def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no such thing")

    async def test() -> None:
        control = ControlSocket(tmp_path / "socket", fail)
        await control.start()
        reader, writer = await asyncio.open_unix_connection(str(control.path))
        writer.write(b"{}\n")
        assert json.loads(await reader.readline()) == {"error": "the order failed: RuntimeError('no such thing')"}
        writer.close()
        await writer.wait_closed()
        control.stop()

    asyncio.run(test())


async def serve_a_node(path: Path) -> asyncio.AbstractServer:
    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        return request

    node = ControlSocket(path, answer)
    await node.start()
    return node.server


async def serve_a_supervisor(path: Path) -> asyncio.AbstractServer:
    async def answer(order: dict[str, Any], _: control.Say) -> dict[str, Any]:
        return order

    return await control.serve(path, answer)


@pytest.mark.parametrize("serve", [serve_a_node, serve_a_supervisor])
def test_the_file_is_there_once_somebody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], Awaitable[asyncio.AbstractServer]]
) -> None:
    """Who waits for a file and connects is never refused, however slow the machine."""
    path, was_there, listen = tmp_path / "a.sock", list[bool](), socket.socket.listen

    def watched(self: socket.socket, *backlog: int) -> None:
        was_there.append(path.exists())
        listen(self, *backlog)

    async def test() -> None:
        (await serve(path)).close()

    monkeypatch.setattr(socket.socket, "listen", watched)
    asyncio.run(test())
    assert was_there[0] is False
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b'{"status": {}}', {"echo": {"status": {}}}),
        (b"nonsense", {"error": "not a request: Expecting value: line 1 column 1 (char 0)"}),
        (b"", {"error": "not a request: Expecting value: line 2 column 1 (char 1)"}),
    ],
)
def test_the_control_socket_answers_one_line_with_one_line(tmp_path: Path, line: bytes, answer: dict[str, Any]) -> None:
    async def echo(request: dict[str, Any]) -> dict[str, Any]:
        return {"echo": request}

    async def test() -> None:
        path = tmp_path / "folder" / "socket"
        control = ControlSocket(path, echo)
        await control.start()
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(line + b"\n")
        assert json.loads(await reader.readline()) == answer
        writer.close()
        await writer.wait_closed()
        control.stop()
        assert not path.exists()

    asyncio.run(test())


@pytest.mark.parametrize("line", [b"{}\n", b"{"], ids=["before the answer", "in the middle of the request"])
def test_who_goes_early_is_missed_by_nobody(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is longer than a socket's buffer, so that nobody could take the whole without reading."""
    served = asyncio.Event()
    serve = ControlSocket.serve

    async def serve_and_tell(*connection: Any) -> None:
        try:
            await serve(*connection)
        finally:
            served.set()

    async def test() -> None:
        going = asyncio.Event()

        async def answer(_: dict[str, Any]) -> dict[str, Any]:
            await going.wait()
            return {"long": "x" * 10_000_000}

        monkeypatch.setattr(ControlSocket, "serve", serve_and_tell)
        control = ControlSocket(tmp_path / "socket", answer)
        await control.start()
        _, writer = await asyncio.open_unix_connection(str(control.path))
        writer.write(line)
        await writer.drain()
        writer.transport.abort()
        going.set()
        await asyncio.wait_for(served.wait(), 60)
        control.stop()

    with caplog.at_level(logging.WARNING):
        asyncio.run(test())
    assert not caplog.records
