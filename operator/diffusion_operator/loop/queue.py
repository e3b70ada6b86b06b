"""Keys that wait for their reconcile: each once, never two of the same at a time, failures with growing pauses.

The semantics are those of client-go's workqueue: a key that is added while it is worked on is worked on once more
afterwards, so nothing that happened in between is missed. There are two lanes. An urgent key is taken before all others
that wait, and some workers take nothing else, so that a crowd cannot hold up a run that lost a worker.

A key in a lane is a ticket. It may have tickets in both lanes, and an old one left over: only a key that waits and is
not worked on is taken, whichever ticket comes first.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 30.0
"""Seconds after the first failure of a key, and at most; doubled each time, with 20% jitter."""


class WorkQueue(Generic[K]):
    """A queue for any number of `work` tasks in one event loop."""

    def __init__(self, failed: Callable[[K, Exception], None]) -> None:
        self._failed = failed
        self._tickets: asyncio.PriorityQueue[tuple[bool, int, K]] = asyncio.PriorityQueue()
        self._urgent_tickets: asyncio.Queue[K] = asyncio.Queue()
        self._numbers = itertools.count()
        self._waiting: dict[K, bool] = {}
        """Whether it is urgent, by key."""
        self._is_closed = False
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
        """Have the key worked on when its turn comes; nothing more if it waits already."""
        if key not in self._waiting:
            self._wait(key, is_urgent=False)

    def add_urgent(self, key: K) -> None:
        """Have the key worked on next, even if it waits for its turn already."""
        if not self._waiting.get(key, False):
            self._wait(key, is_urgent=True)

    def add_after(self, key: K, seconds: float) -> None:
        """Have the key worked on after a pause, or when it is added before that. The earliest time counts."""
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._ring, key)

    async def work(self, task: Callable[[K], Awaitable[float | None]], *, only_urgent: bool = False) -> None:
        """Run `task` on one key after the other until cancelled; its result is the pause before the next time."""
        while True:
            key = await self._urgent_tickets.get() if only_urgent else (await self._tickets.get())[2]
            if key not in self._waiting or key in self._busy:
                continue
            del self._waiting[key]
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
                    self._give_ticket(key)

    def close(self) -> None:
        """Hand out nothing more: what is worked on comes to its end, and nothing new is begun."""
        self._is_closed = True
        self._waiting.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _wait(self, key: K, *, is_urgent: bool) -> None:
        if self._is_closed:
            return
        self._waiting[key] = is_urgent
        if key not in self._busy:
            self._give_ticket(key)

    def _give_ticket(self, key: K) -> None:
        is_urgent = self._waiting[key]
        self._tickets.put_nowait((not is_urgent, next(self._numbers), key))
        if is_urgent:
            self._urgent_tickets.put_nowait(key)

    def _ring(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _pause_after_failure(self, key: K) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
