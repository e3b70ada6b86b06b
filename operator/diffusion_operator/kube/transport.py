"""The one seam between the operator and the network: requests go out here, and tests put their faults in here."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from diffusion_operator.kube.connection import Connection
from diffusion_operator.kube.errors import Unreachable, refusal

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

_FAREWELL_SECONDS = 0.05
_MOST_REQUESTS = 64


@dataclass(frozen=True)
class Reply:
    """A whole answer: code, the Retry-After header in seconds if there was one, and the body's bytes."""

    code: int
    body: bytes = b""
    retry_after: float | None = None


class Transport(Protocol):
    """Carries bytes. Raises Unreachable when no whole answer came."""

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> Reply:
        """One request, one whole answer."""
        ...

    def lines(self, path: str, query: Mapping[str, str], silence: float) -> AsyncGenerator[bytes, None]:
        """The lines of an answer that does not end by itself; Unreachable after `silence` seconds without a byte.

        Raises ApiRefusal when the answer is a refusal.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


@dataclass
class HttpTransport:
    """Over aiohttp: two pools of connections to one API server. `timeout` (seconds) is for a whole request.

    A watch keeps its connection for minutes, and there is one for each kind in each namespace: however many there are,
    they leave the requests their own connections.
    """

    connection: Connection
    timeout: float = 30.0
    _requests: aiohttp.ClientSession | None = field(default=None, repr=False)
    _watches: aiohttp.ClientSession | None = field(default=None, repr=False)

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> Reply:
        """See Transport.request."""
        try:
            self._requests = self._requests or self._session(_MOST_REQUESTS)
            async with self._requests.request(
                method,
                self.connection.server + path,
                params=dict(query),
                data=body,
                headers={**self.connection.authorization(), "Content-Type": content_type, "Accept": JSON},
                timeout=aiohttp.ClientTimeout(total=self.timeout),
            ) as response:
                return Reply(response.status, await response.read(), _seconds(response.headers.get("Retry-After")))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error

    async def lines(self, path: str, query: Mapping[str, str], silence: float) -> AsyncGenerator[bytes, None]:
        """See Transport.lines."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence)
        try:
            self._watches = self._watches or self._session(limit=0)
            async with self._watches.get(
                self.connection.server + path,
                params=dict(query),
                headers={**self.connection.authorization(), "Accept": JSON},
                timeout=timeout,
            ) as response:
                try:
                    if response.status != 200:
                        text = (await response.text())[:500]
                        raise refusal(response.status, response.reason or "", f"watch {path}: {text}")
                    async for line in _split(response.content):
                        yield line
                finally:
                    _abort(response)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"watch {path}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """See Transport.close."""
        opened = [session for session in (self._requests, self._watches) if session is not None]
        self._requests = self._watches = None
        for session in opened:
            await session.close()
        if opened:
            # Aborted TLS connections let go of their sockets in the loop's next rounds; aiohttp does not wait for that.
            await asyncio.sleep(_FAREWELL_SECONDS)

    def _session(self, limit: int) -> aiohttp.ClientSession:
        """A pool of at most so many connections; 0 is any number."""
        connector = aiohttp.TCPConnector(limit=limit, ssl=self.connection.ssl_context())
        return aiohttp.ClientSession(connector=connector, headers={"User-Agent": "diffusion-operator"})


def _abort(response: aiohttp.ClientResponse) -> None:
    """Drop a stream that has not ended: a polite TLS farewell would keep its socket open for half a minute."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # Not StreamReader.readline: it refuses lines beyond its buffer, and objects may have a megabyte.
    pending = b""
    async for chunk in content.iter_any():
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdigit() else None
