"""The sockets at which the supervisor and the nodes take orders."""

import asyncio
import json
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from diffusion_local import control


async def asked(path: Path, handle: control.Handler, line: bytes) -> dict[str, Any]:
    """What a server with `handle` answers to one line."""
    server = await control.serve(path, handle, "supervisor")
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line + b"\n")
    answer: dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    server.close()
    return answer


async def echo(order: dict[str, Any], _: control.Say) -> dict[str, Any]:
    return order


def test_the_file_is_there_once_somebody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a file and connects is never refused, however slow the machine."""
    path, was_there, listen = tmp_path / "a.sock", list[bool](), socket.socket.listen

    def watched(self: socket.socket, *backlog: int) -> None:
        was_there.append(path.exists())
        listen(self, *backlog)

    async def test() -> None:
        (await control.serve(path, echo, "supervisor")).close()

    monkeypatch.setattr(socket.socket, "listen", watched)
    asyncio.run(test())
    assert was_there[0] is False
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b'{"op": "status"}', {"result": {"op": "status"}}),
        (b"nonsense", {"error": "the order could not be read: Expecting value: line 1 column 1 (char 0)"}),
        (b"", {"error": "the order could not be read: Expecting value: line 2 column 1 (char 1)"}),
        (b"[1]", {"error": "the order could not be read: [1] names no operation"}),
    ],
)
def test_one_line_is_answered_with_one_line(tmp_path: Path, line: bytes, answer: dict[str, Any]) -> None:
    assert asyncio.run(asked(tmp_path / "socket", echo, line)) == answer


@pytest.mark.parametrize("line", [b'{"op": "long"}\n', b"{"], ids=["before the answer", "in the middle of the order"])
def test_who_goes_early_is_missed_by_nobody(tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is longer than a socket's buffer, so that nobody could take the whole without reading."""

    async def test() -> None:
        going = asyncio.Event()

        async def answer(_: dict[str, Any], __: control.Say) -> dict[str, Any]:
            await going.wait()
            return {"long": "x" * 10_000_000}

        server = await control.serve(tmp_path / "socket", answer, "supervisor")
        before = asyncio.all_tasks()
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "socket"))
        writer.write(line)
        await writer.drain()
        while not (served := asyncio.all_tasks() - before):  # noqa: ASYNC110  (nobody tells of a task)
            await asyncio.sleep(0.01)
        writer.transport.abort()
        going.set()
        await asyncio.wait(served, timeout=60)
        server.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(test())
    assert not caplog.records
