"""The agent of a worker, with the process that forks its trainers played by the test."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deadline import wait_until
from diffusion_contract.agent_channel import AgentChannel
from diffusion_trainer.agent import REPLACEMENTS, run_agent
from diffusion_trainer.own_process import is_stopped
from diffusion_trainer.packets import PACKET_BYTES, packet_pair
from diffusion_trainer.process_messages import ProcessUpdate
from diffusion_trainer.settings import Settings


class PlayedZygote:
    """Forks processes that make one step each, as `step_of` says for the n-th, and are killed."""

    def __init__(self, step_of: Callable[[int], int], lives: int = 1000) -> None:
        self.step_of, self.lives = step_of, lives
        self.forked = 0
        self.let_finish = False
        self._task: asyncio.Task[None] | None = None

    def start(self, _settings: Settings, link: socket.socket) -> int:
        self._link = link.dup()
        self._link.setblocking(False)
        self._task = asyncio.get_running_loop().create_task(self._serve())
        return 0

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        with self._link as link:
            link.send(json.dumps({"ready": 0, "threads": 1}).encode())
            while packet := await loop.sock_recv(link, PACKET_BYTES):
                if "finish" in json.loads(packet):
                    self.let_finish = True
                    return
                self.forked += 1
                self._fork(link, pid=self.forked)

    def _fork(self, link: socket.socket, pid: int) -> None:
        ours, theirs = packet_pair()
        with ours, theirs:
            socket.send_fds(link, [json.dumps({"forked": 0, "pid": pid}).encode()], [theirs.fileno()])
            ours.send(ProcessUpdate(state="Training", step=self.step_of(pid), loss=0.5).to_packet())
        link.send(json.dumps({"exited": pid, "code": -9 if pid < self.lives else 0}).encode())


def live(tmp_path: Path, zygote: PlayedZygote, **changed: Any) -> int:
    settings = Settings(config_file=tmp_path / "run.json", termination_file=tmp_path / "last-words", **changed)
    return asyncio.run(asyncio.wait_for(run_agent(settings, nobody(tmp_path), zygote.start), 60))


def nobody(folder: Path) -> AgentChannel:
    """A channel to no operator: there is not even a token."""
    return AgentChannel("https://127.0.0.1:1", folder / "ca", folder / "token")


@pytest.mark.parametrize("step_of", [lambda _process: 3, lambda process: 3 - process % 3])
def test_a_process_killed_again_and_again_at_steps_made_before_is_not_replaced_for_ever(
    tmp_path: Path, step_of: Callable[[int], int]
) -> None:
    zygote = PlayedZygote(step_of)
    assert live(tmp_path, zygote) == 128 + 9
    assert zygote.let_finish, "a snapshot that was handed over may still be committed"
    assert zygote.forked <= 3 + REPLACEMENTS
    assert json.loads((tmp_path / "last-words").read_text())["reason"] == "Crashed"


def test_kills_with_progress_in_between_are_not_counted_together(tmp_path: Path) -> None:
    zygote = PlayedZygote(lambda process: process, lives=4 * REPLACEMENTS)
    assert live(tmp_path, zygote) == 0
    assert zygote.forked == 4 * REPLACEMENTS
    assert not zygote.let_finish, "it has waited for its commit by itself"


class HungZygote(PlayedZygote):
    """Its first process is alive and says nothing; the second answers one order and ends well."""

    def _fork(self, link: socket.socket, pid: int) -> None:
        if pid > 1:
            super()._fork(link, pid)
            return
        self.hung = subprocess.Popen(["sleep", "60"])
        self.ours, theirs = packet_pair()
        with theirs:
            socket.send_fds(link, [json.dumps({"forked": 0, "pid": self.hung.pid}).encode()], [theirs.fileno()])
        asyncio.get_running_loop().run_in_executor(None, self._reap, link)

    def _reap(self, link: socket.socket) -> None:
        self.hung.wait(60)  # Its code may be lost: the agent, whose child it is here, collects it too.
        self.ours.close()
        link.send(json.dumps({"exited": self.hung.pid, "code": -signal.SIGKILL}).encode())


def test_a_process_that_gives_no_sign_of_life_is_killed_and_replaced(tmp_path: Path) -> None:
    zygote = HungZygote(lambda _process: 3, lives=2)
    assert live(tmp_path, zygote, beat_seconds=0.01) == 0
    assert zygote.forked == 2


FINISH = """
import subprocess, sys
from pathlib import Path
from diffusion_trainer.packets import packet_pair
from diffusion_trainer.settings import Settings
from diffusion_trainer.zygote import Zygote
agent, ours = packet_pair()
zygote = Zygote(ours, Settings(config_file=Path("run.json")))
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
lives = subprocess.Popen(["sleep", "600"], **quiet)
until_it_is_gone = f"while kill -0 {lives.pid}; do sleep 0.05; done"
writer = subprocess.Popen(["sh", "-c", f"{until_it_is_gone}; sleep {sys.argv[3]} && echo > {sys.argv[1]}"], **quiet)
zygote.trainers, zygote.writers = {lives.pid}, {writer.pid}
print(lives.pid, writer.pid, flush=True)
zygote.finish(float(sys.argv[2]))
"""


@pytest.mark.parametrize(("seconds", "takes", "finished"), [("60", "0.3", True), ("0.01", "600", False)])
def test_when_a_pod_ends_its_writers_finish_what_they_have_in_hand(
    tmp_path: Path, seconds: str, takes: str, finished: bool
) -> None:
    """Also that of a trainer which still lives: it may be another process of the pod that has crashed."""
    command = [sys.executable, "-c", FINISH, str(tmp_path / "done"), seconds, takes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    for pid in done.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done").exists() == finished


PROCESS_ONE = """
import asyncio, os, subprocess
from pathlib import Path
from diffusion_contract.agent_channel import AgentChannel
from diffusion_trainer.agent import run_agent
from diffusion_trainer.settings import Settings
held = []
ORPHAN = "(sleep 0.2 & echo $! > orphan); while kill -0 $(cat orphan) 2>/dev/null; do sleep 0.05; done"
def start(_settings, link):
    held.append(link.dup())
    return subprocess.Popen(["sh", "-c", ORPHAN]).pid
assert os.getpid() == 1
settings = Settings(config_file=Path("run.json"), termination_file=Path("words"))
code = asyncio.run(run_agent(settings, AgentChannel("https://127.0.0.1:1", "ca", "token"), start))
print(code, Path(f"/proc/{Path('orphan').read_text().strip()}").exists())
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux) to be process 1")
def test_as_process_one_it_collects_orphans(tmp_path: Path) -> None:
    command = ["unshare", "-rpf", "--mount-proc", sys.executable, "-c", PROCESS_ONE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "1 False\n", done.stderr


def test_who_is_stopped_is_told_from_who_is_slow() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeps:
        try:
            assert not is_stopped(sleeps.pid)
            sleeps.send_signal(signal.SIGSTOP)
            wait_until(lambda: is_stopped(sleeps.pid), 10, "it is stopped")
            sleeps.send_signal(signal.SIGCONT)
            wait_until(lambda: not is_stopped(sleeps.pid), 10, "it goes on")
        finally:
            sleeps.kill()
    assert not is_stopped(sleeps.pid), "nobody is there"
