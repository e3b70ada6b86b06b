"""Child processes of the supervisor: started with a log file, restarted when they end unasked, stopped when asked."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffusion_local.lifetimes import children_of, is_zombie

LOG = logging.getLogger(__name__)
STOP_SECONDS = 5.0
RESTART_SECONDS = 1.0
REAP_SECONDS = 1.0


class Component:
    """A long-running program with one log file; a program that ends by itself is started again after a second."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.name = name
        self._stop_seconds = stop_seconds
        self._command = list(command)
        self._log = log
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.restarts = 0
        """How often the program ended by itself since it was started."""

    @property
    def running(self) -> bool:
        """Whether the program runs now."""
        return self._process is not None and self._process.returncode is None

    def last_line(self) -> str:
        """Return the end of its log, for a message that says why it does not stay up."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    async def start(self) -> None:
        """Start the program unless it is started already."""
        if self._keeper is None:
            self.restarts = 0
            await self._spawn()
            self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self) -> None:
        """End the program: SIGTERM, and SIGKILL after `stop_seconds`."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        self._keeper = None
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._stop_seconds)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if self._environment is None else os.environ | dict(self._environment),
                start_new_session=True,
            )

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            self.restarts += 1
            LOG.warning("%s ended by itself with code %s; starting it again", self.name, code)
            await asyncio.sleep(RESTART_SECONDS)
            try:
                await self._spawn()
            except OSError as error:  # a full process table, say: it comes when it can
                LOG.warning("%s cannot be started: %s; trying again", self.name, error)


class Reaper:
    """Collects ended orphans, which come to the first process of a PID namespace.

    A child of our own is waited for by asyncio within moments; so what is a zombie at two looks in a row is an orphan.
    """

    def __init__(self) -> None:
        self._suspects: set[int] = set()

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(REAP_SECONDS)

    def look(self) -> None:
        """Collect zombies seen before, and remember the new ones."""
        zombies = {pid for pid in children_of(os.getpid()) if is_zombie(pid)}
        for pid in zombies & self._suspects:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._suspects = zombies
