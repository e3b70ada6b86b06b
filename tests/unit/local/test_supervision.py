"""The parts of a running supervisor, each alone: processes, orders, passed-on connections."""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from diffusion_local import control, forward, process
from diffusion_local.errors import LocalClusterError
from diffusion_local.process import Component, Reaper

DEADLINE_SECONDS = 60.0


async def until(predicate: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (result := predicate()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)
    return result


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def run(body: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), 120))


class TestComponent:
    def test_what_ends_by_itself_is_started_again(self, tmp_path: Path) -> None:
        log = tmp_path / "log"

        async def body() -> None:
            part = Component("p", ["sh", "-c", "echo $$; exit 1"], log)
            await part.start()
            await until(lambda: len(log.read_text().split()) >= 2, "a second start")
            await part.stop()

        run(body)

    def test_what_cannot_be_started_now_is_started_when_it_can(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(process, "RESTART_SECONDS", 0.01)
        log, program = tmp_path / "log", tmp_path / "program"

        def install() -> None:
            fresh = tmp_path / "fresh"
            fresh.write_text("#!/bin/sh\necho here\nsleep 0.2\n")
            fresh.chmod(0o755)
            fresh.replace(program)

        async def body() -> None:
            install()
            part = Component("p", [str(program)], log)
            await part.start()
            program.unlink()
            await until(lambda: part.restarts >= 3, "attempts in vain")
            before = log.read_text()
            install()
            await until(lambda: len(log.read_text()) > len(before), "the next start")
            await part.stop()

        run(body)

    def test_what_is_stopped_stays_stopped_and_can_be_started(self, tmp_path: Path) -> None:
        async def body() -> None:
            part = Component("p", ["sleep", "100"], tmp_path / "log")
            await part.start()
            await part.start()
            assert part.running
            await part.stop()
            assert not part.running
            await part.stop()
            await part.start()
            assert part.running
            await part.stop()

        run(body)

    def test_what_does_not_hear_sigterm_is_killed(self, tmp_path: Path) -> None:
        log = tmp_path / "log"

        async def body() -> None:
            part = Component("p", ["sh", "-c", "trap '' TERM; echo up; exec sleep 100"], log, stop_seconds=0.2)
            await part.start()
            await until(lambda: log.read_text() == "up\n", "the trap")
            await part.stop()
            assert not part.running

        run(body)


def test_an_orphan_is_collected_at_the_second_look() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reaper = Reaper()
    reaper.look()
    assert Path(f"/proc/{pid}").exists()
    reaper.look()
    assert not Path(f"/proc/{pid}").exists()


class TestOrders:
    @pytest.fixture
    def ask(self, tmp_path: Path) -> Callable[..., dict[str, Any]]:
        """A server whose answers are chosen by the order's `op`, and a way to ask it."""
        path = tmp_path / "s"

        async def handle(order: dict[str, Any], say: control.Say) -> dict[str, Any]:
            match order["op"]:
                case "echo":
                    say("one")
                    say("two")
                    return order
                case "refuse":
                    raise LocalClusterError("there is no such thing: make one")
                case "break":
                    raise TypeError("a bug")
                case "silence":
                    await asyncio.sleep(60)
            raise AssertionError(order)

        def ask(order: dict[str, Any], seconds: float = 5, heard: list[str] | None = None) -> dict[str, Any]:
            async def body() -> dict[str, Any]:
                server = await control.serve(path, handle, "supervisor")
                try:
                    say = (heard if heard is not None else []).append
                    return await asyncio.to_thread(control.request, path, order, say, seconds)
                finally:
                    server.close()
                    path.unlink(missing_ok=True)  # newer Pythons take it away themselves

            return asyncio.run(body())

        return ask

    def test_progress_comes_before_the_result(self, ask: Callable[..., dict[str, Any]]) -> None:
        heard: list[str] = []
        assert ask({"op": "echo", "x": 1}, heard=heard) == {"op": "echo", "x": 1}
        assert heard == ["one", "two"]

    def test_a_refusal_is_passed_on_word_for_word(self, ask: Callable[..., dict[str, Any]]) -> None:
        with pytest.raises(LocalClusterError, match=r"^there is no such thing: make one$"):
            ask({"op": "refuse"})

    def test_a_bug_in_the_supervisor_is_said_to_be_one(self, ask: Callable[..., dict[str, Any]]) -> None:
        with pytest.raises(LocalClusterError, match=r"supervisor failed: TypeError.*logs supervisor"):
            ask({"op": "break"})

    def test_an_order_without_op_is_refused(self, ask: Callable[..., dict[str, Any]]) -> None:
        with pytest.raises(LocalClusterError, match="the order could not be read"):
            ask({})

    def test_silence_ends_with_the_deadline(self, ask: Callable[..., dict[str, Any]]) -> None:
        with pytest.raises(LocalClusterError, match=r"did not answer within 0\.2 s"):
            ask({"op": "silence"}, seconds=0.2)

    def test_without_a_supervisor_the_reason_is_given(self, tmp_path: Path) -> None:
        with pytest.raises(LocalClusterError, match="the supervisor is not reachable"):
            control.request(tmp_path / "none", {"op": "echo"}, print, 1)


class TestProgress:
    def test_a_late_listener_hears_everything(self) -> None:
        async def body() -> None:
            progress = control.Progress()
            await progress.say("one")
            await progress.say("two")
            await progress.finish()
            assert [line async for line in progress.follow()] == ["one", "two"]

        run(body)

    def test_an_early_listener_hears_lines_as_they_come_and_the_failure(self) -> None:
        async def body() -> None:
            progress = control.Progress()
            heard: list[str] = []

            async def listen() -> None:
                async for line in progress.follow():
                    heard.append(line)  # noqa: PERF401  (each is needed at once)

            listener = asyncio.create_task(listen())
            await progress.say("one")
            await until(lambda: heard == ["one"], "the first line")
            await progress.fail("no disk: free some")
            with pytest.raises(LocalClusterError, match="no disk"):
                await listener

        run(body)


class TestForward:
    def exchange(self, choose_port: Callable[[int], int | None], sent: bytes) -> bytes:
        """Send `sent` through a forwarder to a server that echoes until end of input, and return the answer."""
        answers: list[bytes] = []

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            await writer.drain()
            writer.close()

        async def body() -> None:
            before = open_files()
            back = await asyncio.start_server(echo, "127.0.0.1", 0)
            port = choose_port(back.sockets[0].getsockname()[1])
            listening = socket.create_server(("127.0.0.1", 0))
            address = listening.getsockname()
            front = await forward.serve_socket(listening, lambda: ("127.0.0.1", port) if port else None)
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(sent)
                writer.write_eof()
                answers.append(await reader.read())
            except OSError:
                answers.append(b"refused")
            writer.close()
            front.close()
            back.close()
            await until(lambda: open_files() <= before, "the end of every connection")

        run(body)
        return answers[0]

    def test_bytes_and_the_end_of_input_go_both_ways(self) -> None:
        data = os.urandom(1 << 20)
        assert self.exchange(lambda port: port, data) == data

    def test_nowhere_to_go_ends_the_connection(self) -> None:
        assert self.exchange(lambda _: None, b"x") in (b"", b"refused")

    def test_a_dead_target_ends_the_connection(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        assert self.exchange(lambda _: port, b"x") in (b"", b"refused")
