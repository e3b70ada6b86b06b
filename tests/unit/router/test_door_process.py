"""The process around a door: it listens, drains while it still listens, and leaves; and the commands' last words."""

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from diffusion_contract.agent_messages import TerminationMessage
from diffusion_router.command import main as router_command
from diffusion_router.door.processes import Face, serve_faces
from diffusion_server.command import main as server_command
from serving_pods import BIN

HOST, PORT = "127.78.0.1", 8000


async def no_drain() -> None:
    return


def app_with(handler: Callable[[Request], Awaitable[Response]]) -> Starlette:
    return Starlette(routes=[Route("/", handler)])


async def connected_to(host: str, port: int) -> None:
    """Return once somebody listens; the test's own timeout is the deadline."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return


async def test_what_arrives_during_the_drain_is_still_answered() -> None:
    told, drained = asyncio.Event(), asyncio.Event()

    async def handler(_: Request) -> Response:
        return JSONResponse({"draining": told.is_set()})

    serving = asyncio.create_task(serve_faces([Face(app_with(handler), HOST, PORT)], told, drained.wait))
    await connected_to(HOST, PORT)
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{PORT}", trust_env=False) as client:
        assert (await client.get("/")).json() == {"draining": False}
        told.set()
        assert (await client.get("/")).json() == {"draining": True}
        drained.set()
        await asyncio.wait_for(serving, 60)
        with pytest.raises(httpx.TransportError):
            await client.get("/")


async def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements() -> None:
    """asyncio sets TCP_NODELAY only on sockets that were made as TCP by name: it must hold for accepted ones."""
    told = asyncio.Event()
    flags: list[int] = []

    async def handler(request: Request) -> Response:
        return JSONResponse({})

    class Looking:
        def __init__(self) -> None:
            self.app = app_with(handler)

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            transport = receive.__self__.transport if hasattr(receive, "__self__") else None
            if transport is not None:
                accepted = transport.get_extra_info("socket")
                flags.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            await self.app(scope, receive, send)

    serving = asyncio.create_task(serve_faces([Face(Looking(), HOST, PORT + 1)], told, no_drain))
    await connected_to(HOST, PORT + 1)
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"http://{HOST}:{PORT + 1}/")
    told.set()
    await asyncio.wait_for(serving, 60)
    assert flags == [1]


async def closed_by_the_server(*pieces: bytes) -> None:
    """Open a connection, send `pieces` one after the other, and wait until the server ends it without an answer."""
    reader, writer = await asyncio.open_connection(HOST, PORT + 3)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.05)
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_who_opens_a_connection_and_stays_silent_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_router.door.connections.HEAD_SECONDS", 0.3)
    told = asyncio.Event()

    async def slow(_: Request) -> Response:
        await asyncio.sleep(0.5)
        return JSONResponse({})

    serving = asyncio.create_task(serve_faces([Face(app_with(slow), HOST, PORT + 3)], told, no_drain))
    await connected_to(HOST, PORT + 3)
    heads = ((), (b"GET",), (b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"X-A: 1\r\n", b"X-B: 2\r\n"))
    await asyncio.gather(*(closed_by_the_server(*pieces) for pieces in heads))
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{PORT + 3}", trust_env=False) as client:
        assert (await client.get("/")).status_code == 200, "an answer may take longer"
        await asyncio.sleep(0.5)
        assert (await client.get("/")).status_code == 200, "and so may the pause between two requests"
    told.set()
    await asyncio.wait_for(serving, 60)


async def test_an_address_that_is_taken_is_an_error_and_not_a_silent_process() -> None:
    async def handler(_: Request) -> Response:
        return JSONResponse({})

    with socket.create_server((HOST, PORT + 2)), pytest.raises(OSError, match="in use"):
        await serve_faces([Face(app_with(handler), HOST, PORT + 2)], asyncio.Event(), no_drain)


@pytest.mark.parametrize("command", [router_command, server_command], ids=["router", "server"])
def test_help_and_version(command: click.Command) -> None:
    runner = CliRunner()
    for arguments in (["--help"], ["--version"], ["serve", "--help"]):
        result = runner.invoke(command, arguments)
        assert result.exit_code == 0
        assert result.output


@pytest.mark.parametrize("command", ["diffusion-router", "diffusion-server"])
@pytest.mark.parametrize("content", [None, "{", '{"service": "x"}'], ids=["missing", "broken", "incomplete"])
def test_a_configuration_that_cannot_be_read_ends_with_64_and_a_reason(
    tmp_path: Path, command: str, content: str | None
) -> None:
    config, words = tmp_path / "config.json", tmp_path / "words"
    if content is not None:
        config.write_text(content)
    asked = [str(BIN / command), "serve", "--config", str(config), "--termination-file", str(words)]
    ended = subprocess.run(asked, capture_output=True, timeout=60)
    assert ended.returncode == 64
    said = TerminationMessage.model_validate_json(words.read_bytes())
    assert said.reason == "ConfigRefused"
    assert said.message.startswith(f"{config}")
    assert "pydantic" not in said.message
    assert len(ended.stderr.splitlines()) == 1
