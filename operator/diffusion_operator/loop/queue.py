"""Keys that wait for their reconcile: each once, never two of the same at a time, failures with growing pauses.

The semantics are those of client-go's workqueue: a key that is added while it is worked on is worked on once more
afterwards, so nothing that happened in between is missed.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 30.0
"""Seconds after the first failure of a key, and at most; doubled each time, with 20% jitter."""


class WorkQueue(Generic[K]):
    """A queue for any number of `work` tasks in one event loop."""

    def __init__(self, failed: Callable[[K, Exception], None]) -> None:
        self._failed = failed
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    @property
    def depth(self) -> int:
        """How many keys wait for a worker now."""
        return len(self._waiting)

    @property
    def is_quiet(self) -> bool:
        """Nothing waits, nothing is worked on, and nothing that failed waits for its next try."""
        return not (self._waiting or self._busy or self._failures)

    def add(self, key: K) -> None:
        """Have the key worked on soon; nothing more if it waits already."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._busy:
            self._ready.put_nowait(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Have the key worked on after a pause, or when it is added before that. The earliest time counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._ring, key)

    async def work(self, task: Callable[[K], Awaitable[float | None]]) -> None:
        """Run `task` on one key after the other until cancelled; its result is the pause before the next time."""
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._busy.add(key)
            if timer := self._timers.pop(key, None):
                timer.cancel()
            try:
                pause = await task(key)
                self._failures.pop(key, None)
                if pause is not None:
                    self.add_after(key, pause)
            except Exception as error:  # noqa: BLE001 - one bad object must not stop the others; it is counted and retried
                self._failed(key, error)
                self.add_after(key, self._pause_after_failure(key))
            finally:
                self._busy.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)

    def close(self) -> None:
        """Cancel the timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _ring(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _pause_after_failure(self, key: K) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
