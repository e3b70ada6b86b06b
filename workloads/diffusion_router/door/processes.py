"""A process with HTTP faces: it listens, serves until it is told to end, drains, and leaves in order."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from diffusion_router.door.connections import PromptConnection

KEEP_ALIVE_SECONDS = 75
"""Longer than a client of ours keeps an idle connection, so that it is never the server that closes first."""


@dataclass(frozen=True)
class Face:
    """An application and the address that it listens on."""

    app: ASGIApp
    host: str
    port: int


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: this module decides when the process ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def ending_event() -> asyncio.Event:
    """An event of the running loop that SIGTERM and SIGINT set."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told


async def serve_faces(
    faces: Sequence[Face], told_to_end: asyncio.Event, drain: Callable[[], Awaitable[object]]
) -> None:
    """Listen on every face until `told_to_end`, then wait for `drain()` while still listening, and close.

    Listening goes on during the drain so that a request that is already on its way is answered, if only with a
    refusal that its sender may take elsewhere. Raises OSError where an address cannot be bound.
    """
    servers = [(_server(face), _listen(face)) for face in faces]
    running = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in servers]
    try:
        await _first_of(told_to_end, running)
        await drain()
    finally:
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*running)


async def _first_of(told_to_end: asyncio.Event, running: Sequence[asyncio.Task[None]]) -> None:
    told = asyncio.create_task(told_to_end.wait())
    await asyncio.wait({told, *running}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()


def _listen(face: Face) -> socket.socket:
    family = socket.AF_INET6 if ":" in face.host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it reads TCP here. Without it every answer on
    # a kept connection waits 40 ms: its body is held back until the client has acknowledged its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((face.host, face.port))
    except OSError:
        listener.close()
        raise
    return listener


def _server(face: Face) -> uvicorn.Server:
    config = uvicorn.Config(
        face.app,
        http=PromptConnection,
        ws="none",
        lifespan="off",
        loop="asyncio",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    return _Server(config)
