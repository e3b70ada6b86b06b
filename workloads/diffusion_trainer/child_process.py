"""One trainer process as its agent knows it: how it is spoken to, and how it is found when it hangs.

A process that is stopped, or stuck in a library that holds Python's lock, keeps its connections open: its peers would
wait for it until their collective times out, and then again in the next generation. So it is given its orders again at
every beat, which it acknowledges in a thread that does nothing else, also while it trains, reads or waits for peers.
"""

import contextlib
import logging
import os
import signal
import socket
from dataclasses import dataclass, field

from diffusion_trainer.own_process import is_stopped
from diffusion_trainer.packets import receive
from diffusion_trainer.process_messages import Orders, ProcessUpdate

log = logging.getLogger(__name__)
UNANSWERED_STOPPED, MOST_UNANSWERED = 12, 60
"""A process is hung that answers none of so many orders, one at each beat of the agent's own loop: of a machine that
was paused as a whole nobody has missed any. One that somebody has stopped is so sooner than one that may be starved: on
a machine without memory nothing is gained by killing those who hold the state."""


@dataclass
class ChildProcess:
    """One trainer process. `known`: what it has told so far; `open`: its socket may still hold something."""

    local_rank: int
    pid: int
    link: socket.socket
    known: dict[str, object] = field(default_factory=dict)
    open: bool = True
    unanswered: int = 0

    def order(self, orders: Orders) -> None:
        """Give it these orders, in place of all before."""
        try:
            self.link.send(orders.model_dump_json(by_alias=True).encode())
        except OSError as error:
            log.info("process %d hears nothing any more: %s", self.local_rank, error)

    def hear(self) -> ProcessUpdate | None:
        """The next that it says; None once it has gone."""
        packet, _ = receive(self.link)
        self.unanswered = 0
        return ProcessUpdate.model_validate_json(packet) if packet else None

    def close(self) -> None:
        """It has gone, and all that it said was heard."""
        self.link.close()
        self.open = False

    def beat(self, orders: Orders) -> None:
        """Ask for a sign of life; SIGKILL where too many gave none: a killed process is replaced, a hung one is not."""
        if not self.open:
            return
        self.unanswered += 1
        if self.unanswered > (UNANSWERED_STOPPED if is_stopped(self.pid) else MOST_UNANSWERED):
            log.warning("process %d gives no sign of life; killing it", self.local_rank)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            return
        self.order(orders)
