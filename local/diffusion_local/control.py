"""How orders reach supervisor and nodes: a JSON line to a Unix socket, answered by lines of progress and one result."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from diffusion_local.errors import LocalClusterError

LOG = logging.getLogger(__name__)
Say = Callable[[str], None]
Handler = Callable[[dict[str, Any], Say], Awaitable[dict[str, Any]]]
"""Takes an order, which names its `op`, and a way to report progress; returns a result or raises LocalClusterError."""


def listening_socket(path: Path) -> socket.socket:
    """Return a Unix socket at `path` for this user only, in place of one that was left there.

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


async def serve(path: Path, handle: Handler, log: str) -> asyncio.Server:
    """Answer orders at the socket `path` with `handle`; who meets a fault of ours is sent to the log called `log`."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(message: dict[str, Any]) -> None:
            writer.write(json.dumps(message).encode() + b"\n")

        try:
            order = await _next_order(reader)
            send(await _outcome(handle(order, lambda text: send({"progress": text})), log))
            await writer.drain()
        except LocalClusterError as error:
            send({"error": str(error)})
        except ConnectionError as error:
            LOG.debug("who gave the order has gone: %s", error)
        finally:
            writer.close()

    return await asyncio.start_unix_server(connection, sock=listening_socket(path))


async def _next_order(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The order that comes; LocalClusterError for something else."""
    try:
        order = json.loads(await reader.readline())
    except ValueError as error:
        raise LocalClusterError(f"the order could not be read: {error}") from error
    if not (isinstance(order, dict) and "op" in order):
        raise LocalClusterError(f"the order could not be read: {order!r} names no operation")
    return order


async def _outcome(obeying: Awaitable[dict[str, Any]], log: str) -> dict[str, Any]:
    """What is answered: the result, or that we failed; LocalClusterError is passed on."""
    try:
        return {"result": await obeying}
    except LocalClusterError:
        raise
    except Exception as error:
        LOG.exception("an order failed")
        return {"error": f"{log} failed: {error!r} (see `diffusion-local logs {log}`)"}


def request(path: Path, order: dict[str, Any], say: Say, seconds: float) -> dict[str, Any]:
    """Send one order to the supervisor at `path`, pass its progress to `say`, and return its result.

    Raises LocalClusterError with the supervisor's reason, or when it ends or stays silent for `seconds`.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps(order).encode() + b"\n")
            for line in connection.makefile("r"):
                message = json.loads(line)
                if "progress" in message:
                    say(message["progress"])
                elif "error" in message:
                    raise LocalClusterError(message["error"])
                else:
                    result: dict[str, Any] = message["result"]
                    return result
        except TimeoutError:
            raise LocalClusterError(f"the supervisor did not answer within {seconds:g} s") from None
        except OSError as error:
            raise LocalClusterError(f"the supervisor is not reachable ({error})") from error
        except ValueError:  # half a line: it ended while it spoke
            pass
    raise LocalClusterError("the supervisor ended before it answered; see `diffusion-local logs supervisor`")


class Progress:
    """Lines that everybody who asks hears from the first on, until `finish` or `fail`."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.failure: str | None = None
        """Why it went wrong; None while it has not."""
        self._finished = False
        self._news = asyncio.Condition()

    async def say(self, line: str) -> None:
        """Add a line."""
        LOG.info("%s", line)
        self._lines.append(line)
        await self._wake()

    async def finish(self) -> None:
        """Say that nothing more comes."""
        self._finished = True
        await self._wake()

    async def fail(self, reason: str) -> None:
        """Say that it went wrong; listeners get LocalClusterError."""
        self.failure = reason
        await self._wake()

    async def follow(self) -> AsyncIterator[str]:
        """Yield all lines, old and new, until the end."""
        seen = 0
        while True:
            async with self._news:
                while len(self._lines) <= seen and not self._finished and self.failure is None:
                    await self._news.wait()
            for line in self._lines[seen:]:
                yield line
            seen = len(self._lines)
            if self.failure:
                raise LocalClusterError(self.failure)
            if self._finished:
                return

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()
