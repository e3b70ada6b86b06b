"""A local socket for `diffusion-local node`: one JSON line in, one JSON line out."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from diffusion_local.node.configuration import Manifest

log = logging.getLogger(__name__)


class ControlSocket:
    """Answers requests at a Unix socket that only this user may open."""

    def __init__(self, path: Path, answer: Callable[[Manifest], Awaitable[Manifest]]) -> None:
        self.path = path
        self.answer = answer

    async def start(self) -> None:
        """Listen; a socket that an earlier agent left is replaced."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.server = await asyncio.start_unix_server(self.serve, str(self.path))
        self.path.chmod(0o600)

    def stop(self) -> None:
        """Listen no more."""
        self.server.close()
        self.path.unlink(missing_ok=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            request = json.loads(await reader.readline() or b"{}")
            answer = await self.answer(request)
        except (ValueError, TypeError, AttributeError) as error:
            answer = {"error": f"not a request: {error}"}
        except Exception as error:
            log.exception("an order failed")
            answer = {"error": f"the order failed: {error!r}"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()
