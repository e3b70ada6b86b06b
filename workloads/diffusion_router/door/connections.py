"""Connections of clients that must get to the point: whoever opens one and stays silent does not keep it."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from diffusion_router.door.limits import HEAD_SECONDS


class PromptConnection(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, which waits for ever for the end of a request's head; here for HEAD_SECONDS.

    Without that a stranger without a key could hold connections, and with them file descriptors, until the process has
    none left. Between two requests the longer keep-alive time holds, and a body has its own time in `read_json`.
    """

    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # a TCP server makes no other
        """A head is due from now on."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """A piece of a head leaves the time as it was; a whole one ends it."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_due is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
