"""A transport that counts writes and fails at one of them, the way that networks and crashes do."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from diffusion_operator.kube.errors import Unreachable
from diffusion_operator.kube.transport import Reply, Transport


class Fault(StrEnum):
    """What happens at the chosen write. In every case the operator's memory is lost there or at its next write."""

    CRASH_BEFORE = "crash before"
    """The process dies with the request unsent."""
    REPLY_LOST = "reply lost"
    """The request is carried out, and the process dies before it hears of it."""
    CONFLICT = "409"
    BUSY = "429"
    SERVER_ERROR = "500"
    TIMEOUT_BUT_APPLIED = "timeout but applied"
    """The request is carried out, the process hears of a time-out and goes on until its next write."""


_CODES = {Fault.CONFLICT: 409, Fault.BUSY: 429, Fault.SERVER_ERROR: 500}
_UNCOUNTED = ("/tokenreviews", "/subjectaccessreviews", "/leases")


@dataclass(frozen=True)
class FaultPlan:
    """Fail at the `write`th write, counted from 1."""

    write: int
    fault: Fault


class FaultyTransport:
    """Wraps a transport. `writes` lists all writes that were tried; `crashed` is set when the process is to be dead."""

    def __init__(self, inner: Transport, plan: FaultPlan | None = None) -> None:
        self.writes: list[str] = []
        self.crashed = asyncio.Event()
        self._inner, self._plan, self._doomed = inner, plan, False

    async def request(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> Reply:
        """See Transport.request."""
        await self._die_if(self.crashed.is_set())
        if method == "GET" or path.endswith(_UNCOUNTED):
            return await self._inner.request(method, path, query, body, content_type)
        await self._die_if(self._doomed)
        self.writes.append(f"{method} {path}")
        if self._plan is None or len(self.writes) != self._plan.write:
            return await self._inner.request(method, path, query, body, content_type)
        return await self._fail(self._plan.fault, method, path, query, body, content_type)

    def lines(self, path: str, query: Mapping[str, str], silence: float) -> AsyncGenerator[bytes, None]:
        """See Transport.lines."""
        return self._inner.lines(path, query, silence)

    async def close(self) -> None:
        """See Transport.close."""
        await self._inner.close()

    async def _fail(
        self, fault: Fault, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str
    ) -> Reply:
        await self._die_if(fault is Fault.CRASH_BEFORE)
        if fault in _CODES:
            self._doomed = True
            said = {"code": _CODES[fault], "reason": "Injected", "message": "a fault of the test"}
            return Reply(_CODES[fault], json.dumps(said).encode(), 0.01)
        await self._inner.request(method, path, query, body, content_type)
        await self._die_if(fault is Fault.REPLY_LOST)
        self._doomed = True
        raise Unreachable("a fault of the test")

    async def _die_if(self, condition: bool) -> None:
        """A dead process does nothing more: it never returns from here."""
        if condition:
            self.crashed.set()
            await asyncio.Event().wait()
