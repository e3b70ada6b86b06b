"""Gets a process out of a collective in which it waits for a peer that hangs: it breaks its own connections.

A peer that hangs keeps its connections open, so a collective with it ends only when it times out. There are two
occasions on which nobody should wait for that: the operator has dropped the peer, or this process is to leave.
"""

import functools
import logging
import threading
from collections.abc import Callable

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.placement import drops_without_notice, must_leave
from diffusion_trainer.process_messages import Orders
from diffusion_trainer.rendezvous import break_connections
from diffusion_trainer.settings import Settings
from diffusion_trainer.training_loop import Training

log = logging.getLogger(__name__)
_HUNG_PEER_SECONDS = 3.0


class PeerWatch:
    """Watches one process's generations. Orders come in the inbox's thread, patience ends in one of its own."""

    def __init__(self, settings: Settings, inbox: Inbox) -> None:
        self._settings = settings
        self._generation: int | None = None
        """The generation that the process is in or gathers for; None in between."""
        self._gathering = False
        self._members: frozenset[str] = frozenset()
        self._broken_off = threading.Event()
        self._training: Training | None = None
        self._is_leaving = False
        inbox.on_orders(self._look_for_dropped_peers)
        inbox.on_orders(self._look_for_our_end)

    def gathers(self, instruction: TrainerInstruction) -> threading.Event:
        """The process gathers for this generation; the event is set once its connections are broken off."""
        self._members = frozenset(member.uid for member in instruction.members)
        self._broken_off, self._gathering = threading.Event(), True
        self._generation = instruction.generation  # Last: with it other threads look at the rest.
        return self._broken_off

    def has_formed(self) -> None:
        """Its members have met."""
        self._gathering = False

    def trains(self, training: Training) -> None:
        """Its steps begin."""
        self._training = training

    def is_over(self) -> None:
        """The process has left it."""
        self._generation = self._training = None

    def _look_for_dropped_peers(self, orders: Orders) -> None:
        """A member that is dropped without notice may hang: break the connections after a while.

        While the generation still gathers, any newer one is a reason: a member may have died in that very moment.
        """
        generation, instruction = self._generation, orders.instruction
        if generation is None or instruction is None or instruction.generation <= generation:
            return
        dropped = drops_without_notice(instruction, self._members)
        if dropped or self._gathering:
            _call_later(_HUNG_PEER_SECONDS, functools.partial(self._break_if_still_in, generation, dropped))

    def _look_for_our_end(self, orders: Orders) -> None:
        """Once told to leave, wait for the agreed end of the step with patience, and then leave without one.

        What the process holds then, the state of the last whole step, it saves by itself.
        """
        instruction = orders.instruction
        told = orders.terminating or (instruction is not None and must_leave(instruction, self._settings.uid))
        if told and not self._is_leaving:
            self._is_leaving = True
            longest = self._training.longest_step if self._training is not None else 0.0
            _call_later(patience_with_peers(self._settings.grace_seconds, longest), self._give_up_on_peers)

    def _give_up_on_peers(self) -> None:
        training, generation = self._training, self._generation
        if generation is not None and (training is None or not training.group.closed):
            self._break_if_still_in(generation, dropped=True)

    def _break_if_still_in(self, generation: int, dropped: bool) -> None:
        broken_off = self._broken_off
        if self._generation == generation and (dropped or self._gathering):
            log.warning("generation %d: it has not ended by itself; breaking its connections", generation)
            break_connections(broken_off)


def patience_with_peers(grace_seconds: float, longest_step: float) -> float:
    """For how many seconds a worker that is to leave waits for peers who do not come to the end of the step.

    Half of its grace, so that as much is left for saving alone; longer where steps take long, since an
    end that all agree on costs nobody the step in flight.
    """
    return min(max(grace_seconds / 2, 2 * longest_step), 0.75 * grace_seconds)


def _call_later(seconds: float, action: Callable[[], None]) -> None:
    """Do this in a thread of its own, if the process still lives then."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
