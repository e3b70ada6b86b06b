"""/healthz and /readyz: red with the reason in words, so that the kubelet restarts what no longer hears or works."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

LONGEST_SILENCE = 240.0
"""Seconds. A watch hears at least a bookmark each minute, and reconnects after 90 s without one. What kopf watches is
listed every SOUNDING_SECONDS."""


@dataclass(frozen=True)
class Watched:
    """A kind that must be heard of, and when it last was (monotonic)."""

    plural: str
    heard_at: Callable[[], float]


@dataclass
class Health:
    """What this process knows about its own state. Tests and the two endpoints read it."""

    watched: list[Watched] = field(default_factory=list)
    checks: list[Callable[[], str | None]] = field(default_factory=list)
    """Other illnesses: each a sentence, or None."""
    is_leader: bool = False
    is_synced: bool = False
    failure: str | None = None
    """Why the process must end, once something died."""
    clock: Callable[[], float] = time.monotonic

    def why_unhealthy(self) -> str | None:
        """A sentence, or None while all is well."""
        if self.failure is not None:
            return self.failure
        silent = [
            f"nothing was heard of {kind.plural} for {silence:.0f} s"
            for kind in self.watched
            if (silence := self.clock() - kind.heard_at()) > LONGEST_SILENCE
        ]
        return "; ".join([*silent, *filter(None, (check() for check in self.checks))]) or None

    def why_unready(self) -> str | None:
        """A sentence, or None. A standby is ready: it can lead at any time, and must not hold up a roll-out."""
        if self.is_leader and not self.is_synced:
            return "the first lists have not come in yet"
        return self.why_unhealthy()


def health_app(health: Health) -> web.Application:
    """The two endpoints."""

    async def healthz(_: web.Request) -> web.Response:
        return _answer(health.why_unhealthy())

    async def readyz(_: web.Request) -> web.Response:
        return _answer(health.why_unready(), "leader" if health.is_leader else "standby")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


def _answer(trouble: str | None, well: str = "ok") -> web.Response:
    return web.Response(text=f"{trouble or well}\n", status=503 if trouble else 200)
