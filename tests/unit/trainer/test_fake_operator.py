"""The operator of the trainers' tests goes away whole: what it left open failed the test that ran when it was found."""

import contextlib
import socket
from pathlib import Path

from fake_operator import FakeOperator


def test_connections_whose_tls_never_begins_end_with_it(tmp_path: Path) -> None:
    operator = FakeOperator(tmp_path)
    operator.start()
    peers = [socket.create_connection(("127.0.0.1", operator.port), timeout=60) for _ in range(3)]
    operator.stop()
    for peer in peers:
        with peer, contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""
