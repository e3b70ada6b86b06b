"""A local socket for `diffusion-local node`: one JSON line in, one JSON line out."""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from diffusion_local.node.configuration import Manifest

log = logging.getLogger(__name__)


def listening_socket(path: Path) -> socket.socket:
    """A Unix socket at `path` for this user only, in place of one that was left there.

    Its file is there once somebody listens: who waits for it and connects before would be refused.
    """
    unready = path.with_suffix(".new")
    unready.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(unready))
    unready.chmod(0o600)
    listener.listen()
    unready.replace(path)
    return listener


class ControlSocket:
    """Answers requests at a Unix socket that only this user may open."""

    def __init__(self, path: Path, answer: Callable[[Manifest], Awaitable[Manifest]]) -> None:
        self.path = path
        self.answer = answer

    async def start(self) -> None:
        """Listen; a socket that an earlier agent left is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.server = await asyncio.start_unix_server(self.serve, sock=listening_socket(self.path))

    def stop(self) -> None:
        """Listen no more."""
        self.server.close()
        self.path.unlink(missing_ok=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request; nothing is owed to whoever has gone before the answer."""
        try:
            answer = await self._answer_next(reader)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except ConnectionError as error:
            log.debug("who asked has gone: %s", error)
        finally:
            writer.close()

    async def _answer_next(self, reader: asyncio.StreamReader) -> Manifest:
        """Take one request and answer it; what is wrong with it, or goes wrong with it, is an answer too."""
        try:
            request = json.loads(await reader.readline() or b"{}")
        except ValueError as error:
            return _no_request(error)
        try:
            return await self.answer(request)
        except (ValueError, TypeError, AttributeError) as error:
            return _no_request(error)
        except Exception as error:
            log.exception("an order failed")
            return {"error": f"the order failed: {error!r}"}


def _no_request(error: Exception) -> Manifest:
    return {"error": f"not a request: {error}"}
