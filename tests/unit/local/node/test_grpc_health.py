"""The gRPC health question against a server that answers byte by byte as a real one (grpcio) was seen to."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

from diffusion_local.node.grpc_health import (
    ACK,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PATH,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    STREAM,
    Frame,
    next_frame,
)
from diffusion_local.node.probing import Answer, Target, ask

HELLO = Frame(SETTINGS, 0, 0, b"\x00\x04\x00\x01\x00\x00")
ANSWER = Frame(HEADERS, 4, STREAM, b"\x88")
TRAILERS = Frame(HEADERS, 4 | END_STREAM, STREAM, b"\x00\x0bgrpc-status\x010")
UNIMPLEMENTED = Frame(HEADERS, 4 | END_STREAM, STREAM, b"\x88\x00\x0bgrpc-status\x0212")


def told(status: bytes, flags: int = 0) -> Frame:
    message = b"\x00" + len(status).to_bytes(4) + status
    return Frame(DATA, flags, STREAM, b"\x03" + message + b"\x00" * 3 if flags & PADDED else message)


async def heard(reader: asyncio.StreamReader, until: int) -> list[Frame]:
    """What comes in, up to a frame of the kind `until`."""
    frames = [await next_frame(reader)]
    while frames[-1].kind != until:
        frames.append(await next_frame(reader))
    return frames


def asked(answers: Sequence[Frame], **action: Any) -> tuple[Answer, list[Frame]]:
    """What a probe makes of the answers, and what it sent."""
    sent: list[Frame] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        sent.extend(await heard(reader, DATA))
        for frame in answers:
            writer.write(frame.packed())
        if answers:
            await reader.read()  # until the probe hangs up
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        served.set()

    async def run() -> Answer:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            answer = await ask({"grpc": {"port": port, **action}}, Target({}, "127.0.0.1", 0, {}), 60)
            await served.wait()
            return answer

    return asyncio.run(run()), sent


@pytest.mark.parametrize(
    ("answers", "good", "message"),
    [
        ([HELLO, ANSWER, told(b"\x08\x01"), TRAILERS], True, ""),
        ([HELLO, Frame(PING, 0, 0, b"12345678"), ANSWER, told(b"\x08\x01", PADDED)], True, ""),
        ([HELLO, ANSWER, told(b"\x08\x02"), TRAILERS], False, 'service unhealthy (responded with "NOT_SERVING")'),
        ([HELLO, ANSWER, told(b""), TRAILERS], False, 'service unhealthy (responded with "UNKNOWN")'),
        ([HELLO, ANSWER, told(b"\x0a\x01x"), TRAILERS], False, "the answer is no HealthCheckResponse"),
        ([HELLO, UNIMPLEMENTED], False, "does not implement the grpc health protocol"),
        ([HELLO, Frame(RST_STREAM, 0, STREAM, b"\x00" * 4)], False, "does not implement the grpc health protocol"),
        ([HELLO, Frame(GOAWAY, 0, 0, b"\x00" * 8)], False, "does not implement the grpc health protocol"),
        ([], False, "the server closed the connection"),
    ],
)
def test_what_a_server_says_is_the_verdict(answers: list[Frame], good: bool, message: str) -> None:
    found, _ = asked(answers)
    assert found.good == good, found
    assert message in found.message


def test_the_question_names_the_service() -> None:
    _, sent = asked([HELLO, ANSWER, told(b"\x08\x01")], service="shop.Cart")
    by_kind = {frame.kind: frame for frame in sent}
    assert PATH.encode() in by_kind[HEADERS].body
    assert by_kind[DATA].body == b"\x00\x00\x00\x00\x0b\x0a\x09shop.Cart"
    assert not by_kind[SETTINGS].flags & ACK


def test_nobody_listening_is_said_as_for_every_probe() -> None:
    found = asyncio.run(ask({"grpc": {"port": 1}}, Target({}, "127.0.0.1", 0, {}), 60))
    assert found == Answer(False, "dial tcp 127.0.0.1:1: connect: connection refused")
