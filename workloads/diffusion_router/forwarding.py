"""Sending a request to an engine, and to another one where the first cannot have begun to answer.

A request is tried again elsewhere when the connection was refused, or when the engine itself refused to begin (it
drains, or its queue is full). An engine that goes away with the request in its hands may have been killed by it: such a
request gets one more engine, and not a whole service. One that falls silent is left as well, but only for another that
is ready: it may just be slow. The seed is chosen before the first try, so a second engine makes the same image.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from diffusion_contract.agent_messages import Route
from diffusion_router.door.errors import ApiError, retry_later
from diffusion_router.door.limits import ANSWER_SECONDS
from diffusion_router.engine_table import EngineState, EngineTable
from diffusion_router.turns import WeightedTurns

_LOGGER = logging.getLogger(__name__)
MAX_TRIES = 4
NOT_BEGUN = frozenset({401, 429, 503})
"""Engine answers that mean that no work was done: try another one. 401 is an engine that has not seen a new key yet."""
NO_ENGINE_RETRY_SECONDS = 2.0
MAX_LOSSES = 2
"""So many engines may go away under one request before it is refused."""
LOOK_SECONDS = 1.0
"""How often it is looked whether the engine of a request has fallen silent, and another one is ready."""
_NOT_REACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Call:
    """What is sent to an engine. `work` is its cost in steps times images; what draws nothing counts as one step."""

    method: str
    path: str
    authorization: str
    body: bytes = b""
    work: int = 1


@dataclass(frozen=True)
class Answer:
    """What an engine said."""

    status: int
    headers: httpx.Headers
    content: bytes
    engine: str


class _EngineLostError(Exception):
    """The engine was sent the request, and went away before it began to answer, or fell silent before it was done."""


class Forwarder:
    """Chooses engines and talks to them."""

    def __init__(
        self,
        table: EngineTable,
        routes: Callable[[], tuple[Route, ...]],
        client: httpx.AsyncClient,
        retried: Callable[[str], None],
    ) -> None:
        self._table = table
        self._routes = routes
        self._client = client
        self._retried = retried
        self._turns = WeightedTurns()

    async def send(self, call: Call) -> Answer:
        """An engine's answer; raises ApiError where none could be had. Cancelling it frees the engine."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS + _GRACE_SECONDS):
                return await self._send(call)
        except TimeoutError:
            raise ApiError("timeout", f"no engine answered within {ANSWER_SECONDS:.0f} s") from None

    async def _send(self, call: Call) -> Answer:
        refusals: list[Answer] = []
        tried: frozenset[str] = frozenset()
        losses = 0
        order = self._turns.order({route.revision: route.weight for route in self._routes()})
        while len(tried) < MAX_TRIES and losses < MAX_LOSSES and (engine := self._next(order, tried)):
            tried |= {engine.url}
            try:
                answer = await self._try(engine, call, partial(self._next, order, tried))
            except _EngineLostError:
                losses += 1
                self._retried("lost")
                continue
            if answer is not None and answer.status not in NOT_BEGUN:
                return answer
            refusals += [answer] if answer else []
            self._retried("refused" if answer else "unreachable")
        return _in_vain(refusals, losses)

    def _next(self, order: tuple[str, ...], tried: frozenset[str]) -> EngineState | None:
        """A ready engine, or where there is none, one that drains."""
        candidates = (
            self._table.choose(revision, tried, draining=draining) for draining in (False, True) for revision in order
        )
        return next((engine for engine in candidates if engine), None)

    async def _try(self, engine: EngineState, call: Call, another: Callable[[], EngineState | None]) -> Answer | None:
        """One try; None where the engine was not reached.

        Raises _EngineLostError where it went away before its answer began, or fell silent while there is
        `another` that is ready, and ApiError where it went away later.
        """
        with self._table.working(engine, call.work):
            return await _unless_silent(engine, self._exchange(engine, call), another)

    async def _exchange(self, engine: EngineState, call: Call) -> Answer | None:
        request = self._client.build_request(
            call.method,
            engine.url + call.path,
            content=call.body,
            headers={"authorization": call.authorization, "content-type": "application/json"},
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as problem:
            _LOGGER.warning("%s did not begin to answer: %s", engine.url, type(problem).__name__)
            engine.unreachable()
            if isinstance(problem, _NOT_REACHED):
                return None
            raise _EngineLostError from problem
        return await _read(engine, response)


async def _unless_silent(
    engine: EngineState, exchange: Coroutine[Any, Any, Answer | None], another: Callable[[], EngineState | None]
) -> Answer | None:
    """What `exchange` gives; it is given up when the engine falls silent and there is `another` that is ready."""
    answered = asyncio.ensure_future(exchange)
    try:
        while not (await asyncio.wait({answered}, timeout=LOOK_SECONDS))[0]:
            if engine.silent and another():
                _LOGGER.warning("%s has fallen silent: its request goes to another engine", engine.url)
                raise _EngineLostError
        return await answered
    finally:
        answered.cancel()
        await asyncio.gather(answered, return_exceptions=True)


def _in_vain(refusals: Sequence[Answer], losses: int) -> Answer:
    """What to say when no engine has answered: the engines' own word where they agree, else an ApiError is raised."""
    if losses:
        message = f"{losses} engine(s) went away before they answered; if it happens again, the request may be why"
        raise ApiError("engine_failed", message)
    full = next((refusal for refusal in refusals if refusal.status == 429), None)
    if full is not None:
        return full
    if refusals and all(refusal.status == 401 for refusal in refusals):
        return refusals[-1]
    raise retry_later("no_engine_ready", "no engine is ready to answer; try again soon", NO_ENGINE_RETRY_SECONDS)


async def _read(engine: EngineState, response: httpx.Response) -> Answer:
    try:
        content = await response.aread()
    except httpx.TransportError as problem:
        engine.unreachable()
        raise ApiError("engine_failed", "the engine went away in the middle of its answer; try again") from problem
    finally:
        await response.aclose()
    return Answer(response.status_code, response.headers, content, engine.url)
