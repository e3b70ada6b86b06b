"""The router's end of the agent channel: a thread that reports where requests go and is told the routes."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from diffusion_contract.agent_channel import ChannelError, ChannelInterrupted
from diffusion_contract.agent_messages import PollAnswer, PollRequest, RouterInstruction, RouterReport

_LOGGER = logging.getLogger(__name__)
HOLD_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0


class Channel(Protocol):
    """The part of `diffusion_contract.agent_channel.AgentChannel` that is used here."""

    def poll(self, request: PollRequest, timeout: float | None = None) -> PollAnswer:
        """Report and be told."""

    def interrupt(self) -> None:
        """End a held poll."""


class InstructionThread:
    """Polls until stopped. `told` is called in this thread, and `unanswered` after each poll that brought nothing."""

    def __init__(
        self,
        channel: Channel,
        report: Callable[[], RouterReport],
        told: Callable[[RouterInstruction], None],
        unanswered: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._report = report
        self._told = told
        self._unanswered = unanswered
        self._ended = threading.Event()
        self._pause = FIRST_PAUSE_SECONDS
        self._thread = threading.Thread(target=self._run, name="instructions", daemon=True)

    def start(self) -> None:
        """Start to poll."""
        self._thread.start()

    def stop(self) -> None:
        """End the held poll and the thread."""
        self._ended.set()
        self._channel.interrupt()
        self._thread.join(5)

    @property
    def alive(self) -> bool:
        """Whether the thread still polls: nothing but `stop` is meant to end it."""
        return self._thread.is_alive()

    def report_now(self) -> None:
        """Something changed that the operator should not learn only at the next poll."""
        self._channel.interrupt()

    def _run(self) -> None:
        seen = ""
        while not self._ended.is_set():
            try:
                seen = self._poll_once(seen)
            except Exception:
                _LOGGER.exception("a poll failed in a way that was not foreseen")
                self._rest()

    def _rest(self) -> None:
        self._ended.wait(self._pause)
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)

    def _poll_once(self, seen: str) -> str:
        """One poll; returns the revision of the instruction that is known afterwards."""
        try:
            answer = self._channel.poll(PollRequest(report=self._report(), seen=seen, wait_seconds=HOLD_SECONDS))
        except ChannelInterrupted:
            return seen
        except ChannelError as problem:
            _LOGGER.warning("the operator does not answer, the newest routes known hold: %s", problem)
            self._unanswered()
            self._rest()
            return seen
        self._pause = FIRST_PAUSE_SECONDS
        if isinstance(answer.instruction, RouterInstruction):
            self._told(answer.instruction)
        return answer.revision
