"""TCP, passed on: from a socket that listens outside the namespace, or from a Service address, to one inside."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import cast

LOG = logging.getLogger(__name__)
Address = tuple[str, int]
Choose = Callable[[], Address | None]
"""Returns where the next connection goes; None when there is nowhere."""


class _End(asyncio.Protocol):
    """One end of a passed-on connection; what it reads is written to its `peer`, with back-pressure both ways."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: _End | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        """One direction is over; when the other is too, both ends close, else the other direction goes on."""
        self.ended = True
        if self.peer and self.peer.transport:
            if self.peer.ended:
                self.peer.transport.close()
                return False
            self.peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio names it)
        if self.peer and self.peer.transport:
            self.peer.transport.close()

    def pause_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer and self.peer.transport:
            self.peer.transport.resume_reading()


class _Front(_End):
    """The accepted end: reads nothing until the other end stands.

    Some Pythons (3.11.2, which Debian 12 has) begin to read after `connection_made` although that has paused it: what
    arrives so early is kept, or a TLS client that speaks first would wait for ever.
    """

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self._choose = choose
        self._early = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        cast(asyncio.Transport, transport).pause_reading()
        self._task = asyncio.create_task(self._join())

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early += data
        else:
            super().data_received(data)

    async def _join(self) -> None:
        assert self.transport is not None
        target = self._choose()
        try:
            if target is None:
                raise ConnectionRefusedError("nothing is ready to serve this address")
            back = _End()
            back.peer = self
            await asyncio.get_running_loop().create_connection(lambda: back, *target)
        except OSError as error:
            LOG.debug("connection to %s dropped: %s", target, error)
            self.transport.abort()
            return
        self.peer = back
        assert back.transport is not None
        if self.transport.is_closing():
            back.transport.close()
            return
        back.transport.write(bytes(self._early))
        if self.ended:
            back.transport.write_eof()
        self.transport.resume_reading()


async def serve_socket(listening: socket.socket, choose: Choose) -> asyncio.Server:
    """Accept on an already listening socket and pass each connection on to where `choose` says."""
    return await asyncio.get_running_loop().create_server(lambda: _Front(choose), sock=listening)


async def serve_address(address: Address, choose: Choose) -> asyncio.Server:
    """Listen on `address` and pass each connection on to where `choose` says."""
    return await asyncio.get_running_loop().create_server(lambda: _Front(choose), *address)
