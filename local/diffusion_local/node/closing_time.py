"""A moment by which something has to end, and which may only come nearer."""

import asyncio
from collections.abc import Awaitable
from typing import Any

NEVER = float("inf")


class ClosingTime:
    """Seconds on the loop's clock; never until it is set."""

    def __init__(self) -> None:
        self.moment = NEVER
        self.nearer = asyncio.Event()

    def bring(self, moment: float) -> None:
        """End by this moment at the latest."""
        if moment < self.moment:
            self.moment = moment
            self.nearer.set()

    @property
    def left(self) -> float:
        """Seconds until then, 0 when it is over."""
        return max(self.moment - asyncio.get_running_loop().time(), 0.0)

    async def wait(self, *events: Awaitable[Any], at_least: float = 0.0) -> None:
        """Return when one of `events` has come, or at the closing time, but not within `at_least` seconds for that."""
        earliest = asyncio.get_running_loop().time() + at_least
        tasks = {asyncio.ensure_future(event) for event in events}
        nearer = asyncio.ensure_future(self.nearer.wait())
        try:
            while not any(task.done() for task in tasks):
                seconds = max(self.moment, earliest) - asyncio.get_running_loop().time()
                if seconds <= 0:
                    return
                await asyncio.wait({*tasks, nearer}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if nearer.done():
                    self.nearer.clear()
                    nearer = asyncio.ensure_future(self.nearer.wait())
        finally:
            for task in (*tasks, nearer):
                task.cancel()
