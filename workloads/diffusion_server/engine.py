"""What the HTTP face talks to: an engine that loads, is ready, drains, and draws samples while it is ready."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from diffusion_contract.serving_config import EngineConfig
from diffusion_router.door.errors import ApiError, retry_later
from diffusion_router.door.limits import ANSWER_SECONDS
from diffusion_server.admission import refusal
from diffusion_server.measures import EngineMeasures
from diffusion_server.samples import Sample, ServedModel
from diffusion_server.step_loop import Done, Finished, Load, Outcome
from diffusion_server.step_times import StepTimes

_LOGGER = logging.getLogger(__name__)
LAME_DUCK_SECONDS = 6.0
"""After SIGTERM requests are still taken for so long: routers look once a second, and names live for 5 s in DNS."""
DRAIN_SECONDS = 25.0
"""How long rows may then still be worked on. Ending takes 10 s more at most; the pod's grace is 45 s."""

Phase = Literal["Loading", "Ready", "Draining"]


class Loop(Protocol):
    """The compute thread, as far as the engine needs it: `diffusion_server.step_loop.StepLoop`."""

    @property
    def healthy(self) -> bool:
        """Whether the thread lives and moves."""

    def load(self) -> Load:
        """How busy it is."""

    def submit(self, sample: Sample, done: Done) -> int:
        """Queue a row."""

    def cancel(self, key: int) -> bool:
        """Free a row's place."""

    def stop(self) -> None:
        """End the thread."""


@dataclass(frozen=True)
class Opened:
    """A model version that is verified, loaded and warm."""

    model: ServedModel
    loop: Loop
    times: StepTimes


@dataclass(frozen=True)
class Drawing:
    """Finished pictures in the order that they were asked for, and where the request's time went."""

    pictures: tuple[bytes, ...]
    queue_seconds: float
    compute_seconds: float


class Engine:
    """One model version and its loop. Belongs to the asyncio loop's thread."""

    def __init__(self, config: EngineConfig, measures: EngineMeasures) -> None:
        self.config = config
        self._measures = measures
        self._opened: Opened | None = None
        self._draining = self._closed = False
        self._drawing = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def phase(self) -> Phase:
        """What the engine is doing. In Draining it still takes requests for a while, from who knows no other engine."""
        if self._draining:
            return "Draining"
        return "Ready" if self._opened else "Loading"

    @property
    def healthy(self) -> bool:
        """False once the compute thread is dead or stuck: only a new process can help then."""
        return self._opened is None or self._draining or self._opened.loop.healthy

    @property
    def opened(self) -> Opened:
        """The model and its loop; raises ApiError while they cannot be used."""
        if self._closed:
            raise retry_later("draining", "this engine is about to end; another one will answer", 1)
        if self._opened is None:
            raise retry_later("no_engine_ready", "the model is still being loaded", 2)
        if not self.healthy:
            raise retry_later("no_engine_ready", "this engine cannot draw any more and will be started again", 2)
        return self._opened

    def open(self, opened: Opened) -> None:
        """Begin to take requests."""
        self._opened = opened
        self._measures.watch_load(opened.loop.load)

    async def draw(self, samples: Sequence[Sample], service_class: str) -> Drawing:
        """Make the pictures of `samples`; raises ApiError. Cancelling this call frees the rows."""
        opened = self.opened
        self._admit(opened, samples)
        self._count_drawing(1)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                rows = await self._rows(opened.loop, samples)
        except TimeoutError:
            raise ApiError("timeout", f"the images were not finished within {ANSWER_SECONDS:.0f} s") from None
        finally:
            self._count_drawing(-1)
        drawing = _drawing_of(rows)
        self._measures.observe_drawing(service_class, len(rows), drawing.queue_seconds, drawing.compute_seconds)
        return drawing

    async def drain(self, lame_duck_seconds: float = LAME_DUCK_SECONDS, seconds: float = DRAIN_SECONDS) -> None:
        """Say that this engine ends, and after a while take no more requests; end the loop when it has nothing to do.

        Requests that still run `seconds` after that are given up.
        """
        self._draining = True
        if self._opened:
            await asyncio.sleep(lame_duck_seconds)
        self._closed = True
        _LOGGER.info("draining: %d requests are being worked on", self._drawing)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        if self._opened:
            await asyncio.to_thread(self._opened.loop.stop)

    def _count_drawing(self, change: int) -> None:
        self._drawing += change
        if self._drawing:
            self._idle.clear()
        else:
            self._idle.set()

    def _admit(self, opened: Opened, samples: Sequence[Sample]) -> None:
        steps = max(sample.steps for sample in samples)
        if no := refusal(opened.loop.load(), opened.times, self.config.max_batch, steps, len(samples)):
            raise no

    async def _rows(self, loop: Loop, samples: Sequence[Sample]) -> list[Finished]:
        """Submit one row per sample and wait for all of them; whatever ends this early cancels the rest."""
        futures: list[asyncio.Future[Outcome]] = []
        keys = []
        try:
            for sample in samples:
                future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                futures.append(future)
                keys.append(loop.submit(sample, _telling(future)))
            outcomes = [await future for future in futures]
        finally:
            self._measures.abandoned.inc(sum(loop.cancel(key) for key in keys))
        return [self._finished(outcome) for outcome in outcomes]

    def _finished(self, outcome: Outcome) -> Finished:
        if isinstance(outcome, Finished):
            return outcome
        if self._closed:
            raise retry_later("draining", "this engine ended before the image was finished", 1)
        raise ApiError("internal_error", str(outcome))


def _telling(future: asyncio.Future[Outcome]) -> Done:
    """A `done` for the compute thread that completes `future` in the asyncio thread."""
    loop = future.get_loop()

    def complete(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    def done(outcome: Outcome) -> None:
        loop.call_soon_threadsafe(complete, outcome)

    return done


def _drawing_of(rows: Sequence[Finished]) -> Drawing:
    """The request waited until its first row began, and was worked on until its last row ended."""
    queued = min(row.queue_seconds for row in rows)
    ended = max(row.queue_seconds + row.compute_seconds for row in rows)
    return Drawing(tuple(row.picture for row in rows), queued, ended - queued)
