"""The agent's link to the operator: one thread that polls for as long as the worker lives.

The report is always the newest one. Something urgent ends the held poll, and the next one carries it. When the
operator is away the worker goes on with the instruction that it has; polls are tried again after a pause that doubles
and is spread at random, so that many workers do not come back all at once.
"""

import logging
import random
import threading
from collections.abc import Callable

from diffusion_contract.agent_channel import AgentChannel, ChannelError, ChannelInterrupted
from diffusion_contract.agent_messages import PollRequest, TrainerInstruction, TrainerReport

log = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


def pause_after(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row: doubling from 0.2 to 10, of which a random 50 to 100 %."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + 0.5 * draw())


class OperatorLink:
    """Polls in a thread of its own. `report_now` and `on_instruction` are called in that thread."""

    def __init__(
        self,
        channel: AgentChannel,
        report_now: Callable[[], tuple[TrainerReport, float]],
        on_instruction: Callable[[TrainerInstruction], None],
    ) -> None:
        self._channel, self._report_now, self._on_instruction = channel, report_now, on_instruction
        self._seen = ""
        self._urgent = threading.Event()
        self._finishing = False
        self._thread = threading.Thread(target=self._run, name="operator-link", daemon=True)
        self._holding = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def tell_now(self) -> None:
        """The report has changed in a way that cannot wait: end the held poll."""
        with self._lock:
            self._urgent.set()
            if self._holding:
                self._channel.interrupt()

    def finish(self, seconds: float) -> None:
        """Tell the last report, for at most so many seconds, and poll no more."""
        self._finishing = True
        self.tell_now()
        self._thread.join(seconds)

    def _run(self) -> None:
        failures = 0
        while True:
            last = self._finishing
            try:
                self._poll_once()
                if last:
                    return
                if failures:
                    log.info("the operator answers again")
                failures = 0
            except ChannelInterrupted:
                continue
            except ChannelError as error:
                failures += 1
                if failures in (1, 5) or failures % 50 == 0:
                    log.warning(
                        "the operator does not answer (%d times): %s; going on with what it said last", failures, error
                    )
                if last:
                    return
                self._urgent.wait(pause_after(failures))

    def _poll_once(self) -> None:
        with self._lock:
            self._urgent.clear()
            self._holding = True
        report, hold_seconds = self._report_now()
        hold_seconds = 0.0 if self._finishing else hold_seconds
        try:
            answer = self._channel.poll(PollRequest(report=report, seen=self._seen, wait_seconds=hold_seconds))
        finally:
            with self._lock:
                self._holding = False
        if answer.revision != self._seen:
            self._seen = answer.revision
            if isinstance(answer.instruction, TrainerInstruction):
                self._on_instruction(answer.instruction)
