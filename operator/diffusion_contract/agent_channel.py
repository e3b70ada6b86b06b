"""The workload's end of the agent channel: one blocking long poll, over TLS, with the standard library only.

A trainer or a router runs `AgentChannel.poll` in a thread of its own. What it is told and what it tells are the
messages of `agent_messages`; when the operator is away every call raises ChannelUnavailable and the workload goes on
with the instruction that it has. Another thread may call `interrupt` to end a held poll at once, so that something
urgent is told in the next one.

    ChannelError
        ChannelUnavailable   nobody answered, or not sensibly: try again after a pause
            ChannelInterrupted   `interrupt` was called: poll again at once
        ChannelRefused       401 or 403: this pod's token is not (or no longer) accepted; try again after a longer pause
"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
from pathlib import Path
from urllib.parse import urlsplit

from diffusion_contract.agent_messages import PollAnswer, PollRequest
from diffusion_contract.names import AGENT_CA_FILE, AGENT_TOKEN_FILE, ENV_AGENT_URL

POLL_PATH = "/v1/poll"
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class ChannelError(Exception):
    """The poll brought no answer."""


class ChannelUnavailable(ChannelError):
    """Nobody answered, or not sensibly. The operator may be away: go on, and try again after a pause."""


class ChannelInterrupted(ChannelUnavailable):
    """`interrupt` ended this poll. Nothing is wrong: poll again at once."""


class ChannelRefused(ChannelError):
    """401 or 403: the operator does not accept this pod. `str()` says why in its words."""


class AgentChannel:
    """Polls one operator over one kept connection. One thread polls; any thread may interrupt.

    `url`: `https://HOST:PORT`. `ca_file` is read for each new connection and `token_file` for each request, since both
    are replaced while the pod runs.
    """

    def __init__(
        self, url: str, ca_file: str | Path = AGENT_CA_FILE, token_file: str | Path = AGENT_TOKEN_FILE
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError(f"{url!r} is not of the form https://HOST:PORT")
        self._host, self._port = parts.hostname, parts.port or 443
        self._ca_file, self._token_file = Path(ca_file), Path(token_file)
        self._lock = threading.Lock()
        self._connection: http.client.HTTPSConnection | None = None
        self._interrupted = False

    @classmethod
    def from_environment(cls) -> "AgentChannel | None":
        """The channel of the pod that this process runs in; None where DIFFUSION_AGENT_URL is not set."""
        url = os.environ.get(ENV_AGENT_URL, "")
        return cls(url) if url else None

    def poll(self, request: PollRequest, timeout: float | None = None) -> PollAnswer:
        """Report, and wait for an instruction other than `request.seen` or for `request.wait_seconds`.

        `timeout` (seconds without a byte) is wait_seconds + 10 when left out. Raises ChannelUnavailable,
        ChannelInterrupted, ChannelRefused.
        """
        timeout = request.wait_seconds + 10 if timeout is None else timeout
        body = json.dumps(request.to_wire()).encode()
        while True:
            reused = self._connection is not None
            try:
                return _understood(*self._exchange(body, timeout))
            except (OSError, http.client.HTTPException, AttributeError) as error:
                # http.client raises AttributeError when its socket is taken away in the middle of a read.
                self.close()
                if self._was_interrupted():
                    raise ChannelInterrupted("the poll was interrupted") from error
                if reused and not isinstance(error, TimeoutError):
                    continue  # A kept connection may have been closed meanwhile; polling twice does no harm.
                raise ChannelUnavailable(
                    f"https://{self._host}:{self._port}: {error or type(error).__name__}"
                ) from error

    def interrupt(self) -> None:
        """End the poll that is held now, or else the next one. Callable from any thread and from a signal handler's."""
        with self._lock:
            self._interrupted = True
            connection = self._connection
        held = connection.sock if connection is not None else None  # looked at once: the other thread may close it
        if held is not None:
            _shut(held)

    def close(self) -> None:
        """Close the connection; the next poll opens a new one."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, body: bytes, timeout: float) -> tuple[int, bytes]:
        headers = {
            "Authorization": f"Bearer {self._token_file.read_text().strip()}",
            "Content-Type": "application/json",
        }
        connection = self._open(timeout)
        connection.request("POST", POLL_PATH, body, headers)
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER_BYTES)
        if response.will_close:
            self.close()
        return response.status, answer

    def _open(self, timeout: float) -> http.client.HTTPSConnection:
        with self._lock:
            connection = self._connection
        if connection is None:
            context = ssl.create_default_context(cafile=str(self._ca_file))
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=min(timeout, 10), context=context)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.settimeout(timeout)
        with self._lock:
            self._connection = connection
            if self._interrupted:
                raise ConnectionAbortedError("interrupted before the request was sent")
        return connection

    def _was_interrupted(self) -> bool:
        with self._lock:
            interrupted, self._interrupted = self._interrupted, False
        return interrupted


def _understood(status: int, body: bytes) -> PollAnswer:
    if status in (401, 403):
        raise ChannelRefused(f"{status}: {body[:500].decode(errors='replace')}")
    if status != 200:
        raise ChannelUnavailable(f"the operator answered {status}: {body[:500].decode(errors='replace')}")
    try:
        return PollAnswer.model_validate_json(body)
    except ValueError as error:
        raise ChannelUnavailable(f"the operator's answer makes no sense: {error}") from error


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # It may be closed already, which is what is wanted.
        # Not SSLSocket.shutdown: it drops the TLS state under the reading thread, which then raises something odd.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
