"""What this router knows of the engines: their addresses by revision, whether they are ready, and their work.

Membership comes from DNS and readiness from asking each engine. A ready engine is left only when its name has resolved
twice without it: a name server's silence, or a hosts file read in the middle of a change, takes none away. It is
forgotten when no request of ours is in its hands: should it fall silent before, that has to go elsewhere.
One that says that it drains is used while there is no other, since it goes on taking requests for some seconds: its
successor may be ready already and not yet be known by name here.

A request goes to the ready engine with the least outstanding work, counted in steps times images: one of 50 steps is
not as cheap as one of 4. Equal ones take turns.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from diffusion_contract.agent_messages import Route

TIMEOUTS_UNTIL_RED = 3
"""An engine that is slow to say that it is ready may only be busy; one that refuses to is red at once."""

ABSENCES_UNTIL_GONE = 2


@dataclass(eq=False)
class EngineState:
    """One engine of one revision.

    `ours` and `others` are outstanding steps times images, by who sent them; `last_used` grows with every use.
    """

    url: str
    revision: str
    ready: bool = False
    draining: bool = False
    ours: int = 0
    others: int = 0
    last_used: int = 0
    timeouts: int = 0
    absences: int = 0
    """How many times in a row its name resolved without it."""
    silent: bool = False
    """It has not answered for so long that it is red: it may be frozen, or its machine gone."""

    @property
    def is_gone(self) -> bool:
        """Whether its name stands for others only: it gets no new request, however ready it says that it is."""
        return self.absences >= ABSENCES_UNTIL_GONE

    @property
    def work(self) -> int:
        """Steps times images that it still has to do, for whomever."""
        return self.ours + self.others

    def answered(self, ready: bool, outstanding_steps: int, draining: bool = False) -> None:
        """It said whether it is ready or about to end, and how much work it has."""
        self.ready, self.draining = ready and not self.is_gone, draining
        self.timeouts = 0
        self.silent = False
        self.others = max(0, outstanding_steps - self.ours)

    def unreachable(self) -> None:
        """It refused a connection or dropped one: it is gone until it answers again."""
        self.ready = self.draining = False

    def timed_out(self) -> None:
        """It did not answer in time."""
        self.timeouts += 1
        if self.timeouts >= TIMEOUTS_UNTIL_RED:
            self.ready = self.draining = False
            self.silent = True


@dataclass
class EngineTable:
    """All engines, by revision and URL."""

    _engines: dict[tuple[str, str], EngineState] = field(default_factory=dict)
    _uses: Iterator[int] = field(default_factory=lambda: count(1))

    def __iter__(self) -> Iterator[EngineState]:
        return iter(list(self._engines.values()))

    def resolved(self, route: Route, addresses: Iterable[str]) -> None:
        """DNS gave these addresses, or none at all. New ones are added, absent ones forgotten in the end."""
        urls = {engine_url(address, route.port) for address in addresses}
        for engine in self:
            if engine.revision == route.revision and engine.url not in urls:
                engine.absences += bool(urls)
                engine.ready = engine.ready and not engine.is_gone
                if not (engine.ready or engine.draining or engine.ours):
                    del self._engines[engine.revision, engine.url]
        for url in urls:
            engine = self._engines.setdefault((route.revision, url), EngineState(url, route.revision))
            engine.absences = 0

    def keep_only(self, revisions: Iterable[str]) -> None:
        """Forget the engines of revisions that have no route any more."""
        kept = frozenset(revisions)
        self._engines = {key: one for key, one in self._engines.items() if one.revision in kept or one.ours}

    def ready_counts(self, revisions: Iterable[str]) -> dict[str, int]:
        """How many engines of each revision answer that they are ready."""
        return {name: sum(engine.ready for engine in self if engine.revision == name) for name in revisions}

    def choose(self, revision: str, tried: frozenset[str], *, draining: bool = False) -> EngineState | None:
        """The engine of `revision` that should get the next request; None where none is ready (or `draining`)."""
        candidates = [
            engine
            for engine in self
            if engine.revision == revision
            and engine.url not in tried
            and (engine.draining if draining else engine.ready)
        ]
        return min(candidates, key=lambda engine: (engine.work, engine.last_used, engine.url), default=None)

    @contextmanager
    def working(self, engine: EngineState, work: int) -> Iterator[None]:
        """Count `work` (steps times images) as outstanding on `engine` while the block runs."""
        engine.last_used = next(self._uses)
        engine.ours += work
        try:
            yield
        finally:
            engine.ours -= work

    @property
    def outstanding_work(self) -> int:
        """Steps times images that this router waits for."""
        return sum(engine.ours for engine in self)


def engine_url(address: str, port: int) -> str:
    """The base URL of an engine; an IPv6 address is put in brackets."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
