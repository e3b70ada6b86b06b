"""A process that has imported torch once, and forks whole workers (agent, zygote, trainers) from then on.

Every worker of a pod imports the libraries by itself, which takes several seconds; tests would spend minutes on it.
Here the agent and its zygote are forked instead of started. Everything after that is the code that runs in pods.

Run as `python worker_nursery.py DESCRIPTOR`; `Nursery` is the test's side.
"""

import asyncio
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

from diffusion_trainer.agent import zygote_environment

PACKET_BYTES = 65536


class Nursery:
    """Starts the process and speaks with it. `exit_codes` fills as workers end."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, **zygote_environment({"OMP_NUM_THREADS": "1"}, processes=1)}
        command = [sys.executable, __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()
        self.exit_codes: dict[int, int] = {}
        self._started: list[int] = []
        self._condition = threading.Condition()
        self._ready = False
        threading.Thread(target=self._hear, daemon=True).start()

    def start_worker(self, order: dict[str, object]) -> int:
        """Fork one worker; returns the pid of its agent. `order`: see be_worker."""
        with self._condition:
            assert self._condition.wait_for(lambda: self._ready, 240), "the libraries were not imported in time"
            known = len(self._started)
            self._link.send(json.dumps(order, default=str).encode())
            assert self._condition.wait_for(lambda: len(self._started) > known, 30)
            return self._started[-1]

    def close(self) -> None:
        """End the process and every worker that still lives."""
        self._link.close()
        self._process.kill()
        self._process.wait(10)

    def _hear(self) -> None:
        while packet := self._receive():
            message = json.loads(packet)
            with self._condition:
                self._ready = self._ready or "ready" in message
                if "started" in message:
                    self._started.append(message["started"])
                if "exited" in message:
                    self.exit_codes[message["exited"]] = message["code"]
                self._condition.notify_all()

    def _receive(self) -> bytes:
        try:
            return self._link.recv(PACKET_BYTES)
        except OSError:
            return b""


def serve(link: socket.socket) -> None:
    """Fork workers until the test goes away."""
    from diffusion_trainer.own_process import die_with_parent
    from diffusion_trainer.zygote import import_everything

    die_with_parent()
    import_everything()
    import diffusion_trainer.agent  # noqa: F401

    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    selector = selectors.DefaultSelector()
    selector.register(link, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    link.send(b'{"ready": true}')
    while True:
        for key, _events in selector.select():
            if key.fileobj is link:
                packet = link.recv(PACKET_BYTES)
                if not packet:
                    return
                link.send(json.dumps({"started": fork_worker(json.loads(packet), [link, wake, woken])}).encode())
            else:
                os.read(wake, 4096)
                reap(link)


def reap(link: socket.socket) -> None:
    from diffusion_trainer.own_process import ended_children

    for pid, code in ended_children():
        link.send(json.dumps({"exited": pid, "code": code}).encode())


def fork_worker(order: dict[str, Any], inherited: list[int | socket.socket]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = be_worker(order, inherited)
    finally:
        os._exit(code)


def be_worker(order: dict[str, Any], inherited: list[int | socket.socket]) -> int:
    """The forked child: an agent whose zygote is forked too.

    `order` has its `settings`, the operator's `url`, the files `ca`, `token` and `log`, and whether it is `on_cpu`.
    """
    from diffusion_contract.agent_channel import AgentChannel
    from diffusion_trainer.agent import run_agent
    from diffusion_trainer.log_lines import start_logging
    from diffusion_trainer.own_process import die_with_parent
    from diffusion_trainer.settings import Settings
    from diffusion_trainer.zygote import be_zygote

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    for end in inherited:
        os.close(end if isinstance(end, int) else end.fileno())
    os.setsid()
    os.environ["NCCL_HOSTID"] = order["settings"]["uid"]  # A machine of its own: NCCL refuses a GPU to two of one.
    if order["on_cpu"]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    settings = Settings.model_validate(order["settings"])
    start_logging(settings.pod)

    def fork_zygote(settings: Settings, link: socket.socket) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            be_zygote(link, settings)
        finally:
            os._exit(1)

    channel = AgentChannel(order["url"], order["ca"], order["token"])
    return asyncio.run(run_agent(settings, channel, fork_zygote))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
