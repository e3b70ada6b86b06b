r"""The process that has imported everything once, and is forked for every trainer process and its checkpoint writer.

Importing torch, diffusers and accelerate takes seconds; a fork of a process that has them takes milliseconds. It must
be forked before any thread or CUDA context exists, so this process does nothing but import, fork and reap.

    agent ----socket---- zygote            fork orders; exits of trainers
      \                    | fork
       ----socket---- trainer ----socket---- writer
"""

import contextlib
import gc
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from diffusion_trainer.log_lines import start_logging
from diffusion_trainer.own_process import (
    die_with_parent,
    ended_children,
    leave_signals_to_the_agent,
    open_descriptors,
)
from diffusion_trainer.packets import packet_pair, receive
from diffusion_trainer.settings import Settings

log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.05
_DRIVER_FILES = "/dev/nvidia"


def import_everything() -> float:
    """Import what trainer processes need; returns the seconds that it took."""
    started = time.monotonic()
    import accelerate
    import diffusers
    import sklearn.datasets  # noqa: F401
    import torch
    from diffusers import UNet2DModel  # noqa: F401 - diffusers loads its classes only when they are named

    import diffusion_trainer.trainer_process  # noqa: F401

    log.info("torch %s, diffusers %s, accelerate %s", torch.__version__, diffusers.__version__, accelerate.__version__)
    return time.monotonic() - started


class Zygote:
    """Serves one agent. `agent` is a SEQPACKET socket; fork orders come in, children's ends and exits go out."""

    def __init__(self, agent: socket.socket, settings: Settings) -> None:
        self.agent, self.settings = agent, settings
        self.trainers: set[int] = set()
        self.writers: set[int] = set()
        """Checkpoint writers that live. Each ends when its trainer has, and when it has done what it has in hand."""

    def serve(self) -> NoReturn:
        """Fork on demand until the agent goes away."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        selector = selectors.DefaultSelector()
        selector.register(self.agent, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is self.agent:
                    packet, _ = receive(self.agent)
                    if not packet:
                        os._exit(0)
                    order = json.loads(packet)
                    if "finish" in order:
                        self.finish(float(order["finish"]))
                    self.fork_trainer(int(order["fork"]))
                else:
                    os.read(wake, 4096)
                    self.reap()

    def fork_trainer(self, local_rank: int) -> None:
        """Fork a checkpoint writer and a trainer process, and hand the trainer's socket to the agent."""
        ours, trainers_end = packet_pair()
        writers_end, writers_other_end = packet_pair()
        keep = [trainers_end, writers_other_end]
        writer = fork(lambda: _writer_main(self.settings, local_rank, writers_end), [writers_end])
        trainer = fork(lambda: _trainer_main(self.settings, local_rank, trainers_end, writers_other_end), keep)
        self.trainers.add(trainer)
        self.writers.add(writer)
        log.info("process %d: trainer is pid %d, its checkpoint writer pid %d", local_rank, trainer, writer)
        message = json.dumps({"forked": local_rank, "pid": trainer}).encode()
        socket.send_fds(self.agent, [message], [ours.fileno()])
        for end in (ours, *keep, writers_end):
            end.close()

    def finish(self, seconds: float) -> NoReturn:
        """End at once with all trainers, but give their writers `seconds` for what they were handed over."""
        for trainer in self.trainers:
            os.kill(trainer, signal.SIGKILL)
        self.trainers.clear()  # The agent has heard enough.
        deadline = time.monotonic() + seconds
        while self.writers and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            self.reap()
        os._exit(0)

    def reap(self) -> None:
        """Collect children that have ended; trainers' exits are told to the agent."""
        for pid, code in ended_children():
            self.writers.discard(pid)
            if pid in self.trainers:
                self.trainers.discard(pid)
                self.agent.send(json.dumps({"exited": pid, "code": code}).encode())


def fork(main: Callable[[], int], keep: list[socket.socket]) -> int:
    """Run `main` in a forked child that ends with its return value; the pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        die_with_parent()
        _close_all_but(keep)
        code = main()
    except BaseException:
        log.exception("the process ends")  # Nobody sees it otherwise: this is as far as it goes.
    finally:
        logging.shutdown()
        os._exit(code)


def _close_all_but(keep: list[socket.socket]) -> None:
    """Close what was inherited: another process's socket held open here would hide that its owner has gone.

    The files of the GPU's driver stay. NVML has opened them, which the libraries ask at their import, and goes on using
    them in this process: without them it says that there is no GPU.
    """
    kept = {0, 1, 2, *(end.fileno() for end in keep)}
    for descriptor in set(open_descriptors()) - kept:
        with contextlib.suppress(OSError):  # It was the one that listed the folder.
            if not str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(_DRIVER_FILES):
                os.close(descriptor)


def _trainer_main(settings: Settings, local_rank: int, agent: socket.socket, writer: socket.socket) -> int:
    from diffusion_trainer.inbox import Inbox
    from diffusion_trainer.reporter import Reporter
    from diffusion_trainer.trainer_process import run_trainer

    _name_process(f"diffusion-trainer: process {local_rank} of {settings.pod}")
    start_logging(f"{settings.pod}/{local_rank}")
    return run_trainer(settings, local_rank, Inbox(agent), Reporter(agent.send), writer)


def _writer_main(settings: Settings, local_rank: int, trainer: socket.socket) -> int:
    from diffusion_trainer.checkpoint.writer import run_writer

    _name_process(f"diffusion-trainer: checkpoint writer of {settings.pod}/{local_rank}")
    start_logging(f"{settings.pod}/{local_rank}/writer")
    return run_writer(trainer)


def _name_process(title: str) -> None:
    from setproctitle import setproctitle

    setproctitle(title)


def be_zygote(agent: socket.socket, settings: Settings) -> NoReturn:
    """Import everything, say so to the agent, and serve it."""
    leave_signals_to_the_agent()
    die_with_parent()
    start_logging(f"{settings.pod}/zygote")
    seconds = import_everything()
    gc.collect()
    gc.freeze()  # Children share these pages for as long as nobody's garbage collector touches them.
    agent.send(
        json.dumps({"ready": round(seconds, 2), "threads": len(list(Path("/proc/self/task").iterdir()))}).encode()
    )
    Zygote(agent, settings).serve()


if __name__ == "__main__":
    be_zygote(socket.socket(fileno=int(sys.argv[1])), Settings.model_validate_json(sys.argv[2]))
