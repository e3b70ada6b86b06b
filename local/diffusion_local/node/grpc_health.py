"""The gRPC health question (grpc.health.v1.Health/Check), by hand: one request, one connection, no library.

Of HTTP/2 (RFC 9113) it needs the preface, an empty SETTINGS, a HEADERS frame whose fields are written out in full
(RFC 7541, 6.2.2), and DATA; of the answer only the DATA, since an error has none.
"""

import asyncio
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, PADDED, ACK = 0x1, 0x4, 0x8, 0x1
STREAM = 1
PATH = "/grpc.health.v1.Health/Check"
STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")


class NoHealthAnswer(Exception):
    """The server did not say how it is; the message says what it did instead."""


@dataclass(frozen=True)
class Frame:
    """One HTTP/2 frame."""

    kind: int
    flags: int
    stream: int
    body: bytes = b""

    def packed(self) -> bytes:
        """As it is sent."""
        return len(self.body).to_bytes(3) + bytes([self.kind, self.flags]) + self.stream.to_bytes(4) + self.body


def header(name: str, value: str) -> bytes:
    """A header field that nobody shall index, both parts at most 126 bytes."""
    return b"\x00" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


def message(service: str) -> bytes:
    """A HealthCheckRequest about `service`, uncompressed and with its length in front; the name is below 128 bytes."""
    body = b"\x0a" + bytes([len(service.encode())]) + service.encode() if service else b""
    return b"\x00" + len(body).to_bytes(4) + body


def request(authority: str, service: str) -> bytes:
    """All that is sent."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": PATH,
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": "kube-probe/1",
    }
    head = b"".join(header(name, value) for name, value in fields.items())
    frames = (
        Frame(SETTINGS, 0, 0),
        Frame(HEADERS, END_HEADERS, STREAM, head),
        Frame(DATA, END_STREAM, STREAM, message(service)),
    )
    return PREFACE + b"".join(frame.packed() for frame in frames)


def status_of(answer: bytes) -> int:
    """The status in a HealthCheckResponse: 0 where the message is empty."""
    size, body = int.from_bytes(answer[1:5]), answer[5:]
    if answer[0] or size != len(body) or (body and (len(body) != 2 or body[0] != 0x08)):
        raise NoHealthAnswer("error: health rpc probe failed: the answer is no HealthCheckResponse")
    return body[1] if body else 0


async def next_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame; IncompleteReadError where the connection ends."""
    head = await reader.readexactly(9)
    body = await reader.readexactly(int.from_bytes(head[:3]))
    if head[4] & PADDED and head[3] == DATA:
        body = body[1 : len(body) - body[0]]
    return Frame(head[3], head[4], int.from_bytes(head[5:9]) & 0x7FFFFFFF, body)


async def answer_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The message that comes back; settings are agreed to and pings answered meanwhile."""
    received = b""
    while len(received) < 5 or len(received) < 5 + int.from_bytes(received[1:5]):
        frame = await next_frame(reader)
        if frame.kind in (SETTINGS, PING) and not frame.flags & ACK:
            writer.write(Frame(frame.kind, ACK, 0, frame.body if frame.kind == PING else b"").packed())
        if frame.kind == DATA:
            received += frame.body
        ended = frame.stream == STREAM and frame.flags & END_STREAM and frame.kind in (DATA, HEADERS)
        if frame.kind in (RST_STREAM, GOAWAY) or (ended and not received):
            raise NoHealthAnswer("error: this server does not implement the grpc health protocol, or not this service")
    return received


async def health(host: str, port: int, service: str) -> str:
    """What the server says about `service`: one of STATUSES; OSError or NoHealthAnswer where it says nothing."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request(f"{host}:{port}", service))
        status = status_of(await answer_of(reader, writer))
        return STATUSES[status] if status < len(STATUSES) else str(status)
    except asyncio.IncompleteReadError:
        raise NoHealthAnswer("error: health rpc probe failed: the server closed the connection") from None
    finally:
        writer.close()
