"""Keeps a process that was the leader from writing: it may have been stopped, and another may lead by now."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from diffusion_operator.kube.errors import Unreachable
from diffusion_operator.kube.transport import Reply, Transport


@dataclass(frozen=True)
class FencedTransport:
    """Another transport, to which writes go only while `may_write` says so; then they raise Unreachable, unsent."""

    transport: Transport
    may_write: Callable[[], bool]

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> Reply:
        """See Transport.request."""
        if method != "GET" and not self.may_write():
            raise Unreachable(f"{method} {path}: not sent, since the lease was not renewed: another may lead")
        return await self.transport.request(method, path, query, body, content_type)

    def lines(self, path: str, query: Mapping[str, str], silence: float) -> AsyncGenerator[bytes, None]:
        """See Transport.lines."""
        return self.transport.lines(path, query, silence)

    async def close(self) -> None:
        """See Transport.close."""
        await self.transport.close()
