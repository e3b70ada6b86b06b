"""One run of a container: the process that `launch` turns into it, its output, its signals and its end."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from diffusion_local.node.configuration import Manifest
from diffusion_local.node.container_log import LogWriter
from diffusion_local.node.memory_watch import own_peak
from diffusion_local.node.mounts import checked, libc
from diffusion_local.node.pod_network import PodNetwork

PROGRAMS = Path(__file__).parents[2]
CLONE_NEWPID = 0x20000000
DRAIN_SECONDS = 2.0
BARE_ENVIRONMENT = {"PYTHONPATH": str(PROGRAMS)}
"""For `bare_python`; what it becomes gets an environment of its own."""


class CommandNotStarted(Exception):
    """The container's command could not be started: reason StartError, exit code 128."""


def bare_python(module: str) -> list[str]:
    """The command that runs a module which needs the standard library only, started as quickly as Python can be."""
    return [sys.executable, "-S", "-s", "-P", "-m", module]


@contextlib.contextmanager
def children_in_new_process_table() -> Iterator[None]:
    """The next child becomes process 1 of a new PID namespace, and still is a child that can be waited for."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    try:
        checked(libc.unshare(CLONE_NEWPID), "a process table for a container")
        yield
    finally:
        libc.setns(own, CLONE_NEWPID)
        os.close(own)


class ContainerProcess:
    """A running container. Its first process is number 1 of a process table of its own: when it dies, all die."""

    def __init__(self, spec: Manifest, directory: Path, log_path: Path, network: PodNetwork | None = None) -> None:
        self.spec = spec
        self.inherited = [] if network is None else [network.descriptor]
        self.directory = directory
        self.log = LogWriter(log_path)
        self.pid = 0
        """The first process, as this node numbers it; also its process group once it runs."""
        self.exited = asyncio.Event()
        self.exit_code = 0
        self.inherited_peak = own_peak()
        self.peak = 0
        """Bytes of memory that its largest process has had, once it has ended."""
        self.begun = time.monotonic()
        self.seconds = 0.0
        """How long it ran, once it has ended."""
        self.out_of_memory = False

    async def start(self) -> None:
        """Start it and wait until the command runs; CommandNotStarted says why it does not."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "launch.json"
        status_read, status_write = os.pipe()
        output_read, output_write = os.pipe()
        try:
            file.touch(mode=0o600)
            file.write_text(json.dumps({**self.spec, "statusFd": status_write, "networkFds": self.inherited}))
            with children_in_new_process_table():
                self.process = self.launched(file, status_write, output_write)
        except OSError:
            os.close(status_read)
            os.close(output_read)
            raise
        finally:
            os.close(status_write)
            os.close(output_write)
        self.pid = self.process.pid
        self.drained = asyncio.create_task(self.pump(output_read))
        self.watch_exit()
        problem = await (await pipe_reader(status_read)).read()
        file.unlink()
        if problem:
            await self.exited.wait()
            raise CommandNotStarted(problem.decode(errors="replace"))

    def launched(self, file: Path, status: int, output: int) -> subprocess.Popen[bytes]:
        """Start the launcher."""
        return subprocess.Popen(
            [*bare_python("diffusion_local.node.launch"), str(file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[status, *self.inherited],
            env=BARE_ENVIRONMENT,
        )

    async def pump(self, output: int) -> None:
        """Copy what the container writes into its log until nobody holds the pipe any more."""
        reader = await pipe_reader(output)
        try:
            while chunk := await reader.read(65536):
                with contextlib.suppress(OSError):  # a full disk costs lines, not the container
                    self.log.feed(chunk)
        finally:
            self.log.close()

    def watch_exit(self) -> None:
        """Notice the end without a thread or a signal handler."""
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(self.process.pid)

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            _, status, usage = os.wait4(self.process.pid, 0)
            code = self.process.returncode = os.waitstatus_to_exitcode(status)
            self.exit_code = code if code >= 0 else 128 - code
            self.peak, self.seconds = usage.ru_maxrss * 1024, time.monotonic() - self.begun
            self.exited.set()

        loop.add_reader(descriptor, ended)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the container's process group; SIGKILL to its first process, which takes all with it."""
        if self.exited.is_set() or not self.pid:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.kill(self.pid, number)
            else:
                os.killpg(self.pid, number)

    async def finished(self) -> int:
        """Wait for the end, and until the log is complete; the exit code, 128 + signal for a killed one."""
        await self.exited.wait()
        with contextlib.suppress(TimeoutError, OSError):
            await asyncio.wait_for(self.drained, DRAIN_SECONDS)
        return self.exit_code


async def pipe_reader(descriptor: int) -> asyncio.StreamReader:
    """Read a pipe without blocking; it is closed when its other end is."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb"))
    return reader
