"""The ears of a trainer process: one thread that hears its agent and its checkpoint writer while training goes on."""

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_trainer.checkpoint.writer_messages import SaveResult
from diffusion_trainer.packets import receive
from diffusion_trainer.process_messages import Orders, ProcessUpdate

log = logging.getLogger(__name__)


class Inbox:
    """The newest orders of the agent. The training thread reads attributes; waiting is done on a condition.

    When the agent goes away the process ends at once: nobody would ever tell it anything again.
    """

    def __init__(self, agent: socket.socket | None, orders: Orders | None = None) -> None:
        self._agent = agent
        self._condition = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._listeners: list[Callable[[Orders], None]] = []
        self._thread: threading.Thread | None = None
        self._is_listening = False
        self.orders = orders or Orders()
        self.terminating_since: float | None = None
        if agent is not None:
            self._selector.register(agent, selectors.EVENT_READ, self._hear_agent)

    def start(self) -> None:
        """Begin to listen; everything that is heard was registered before."""
        self._is_listening = True
        self._thread = threading.Thread(target=self._listen, name="inbox", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait until there is nobody left to listen to; False after `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    @property
    def newest_generation(self) -> int:
        """The newest generation announced, 0 before the first."""
        instruction = self.orders.instruction
        return instruction.generation if instruction is not None else 0

    def why_stop(self, generation: int) -> str | None:
        """Why this process does not want to gather for `generation` any more; None while it does."""
        if self.newest_generation > generation:
            return f"generation {self.newest_generation} was announced"
        return "told to end" if self.orders.terminating else None

    def on_orders(self, listener: Callable[[Orders], None]) -> None:
        """Call `listener` in the inbox's thread for every packet of orders."""
        self._listeners.append(listener)

    def hear_writer(
        self, writer: socket.socket, on_result: Callable[[SaveResult], None], on_gone: Callable[[], None]
    ) -> None:
        """Call `on_result` in the inbox's thread for every result of this checkpoint writer, `on_gone` at its end."""

        def hear() -> None:
            packet, _ = receive(writer)
            if not packet:
                self._selector.unregister(writer)
                on_gone()
                return
            on_result(SaveResult.model_validate_json(packet))

        with self._condition:
            self._selector.register(writer, selectors.EVENT_READ, hear)
            if self._thread is not None and not self._is_listening:
                self.start()  # It had nobody left to listen to.

    def wait(self, ready: Callable[[Orders], bool], seconds: float | None = None) -> bool:
        """Wait until the orders are such that `ready` holds; False after `seconds`."""
        with self._condition:
            return self._condition.wait_for(lambda: ready(self.orders), seconds)

    def take(self, orders: Orders) -> None:
        """Put new orders in place and wake who waits for them. An older generation never replaces a newer one."""
        with self._condition:
            self.orders = orders = orders.model_copy(
                update={"instruction": newest_of(self.orders.instruction, orders.instruction)}
            )
            if orders.terminating and self.terminating_since is None:
                self.terminating_since = time.monotonic()
            self._condition.notify_all()
        for listener in self._listeners:
            listener(orders)

    def learn(self, instruction: TrainerInstruction) -> None:
        """Take over an instruction that a peer has heard, in case that this pod's agent cannot."""
        with self._condition:
            self.take(self.orders.model_copy(update={"instruction": instruction}))

    def _listen(self) -> None:
        try:
            while self._has_somebody_to_hear():
                for key, _events in self._selector.select():
                    key.data()
        except Exception:
            log.exception("the inbox has failed")
            os._exit(1)

    def _has_somebody_to_hear(self) -> bool:
        with self._condition:
            self._is_listening = bool(self._selector.get_map())
            return self._is_listening

    def _hear_agent(self) -> None:
        assert self._agent is not None
        packet, _ = receive(self._agent)
        if not packet:
            os._exit(1)
        self.take(Orders.model_validate_json(packet))
        self._agent.send(ProcessUpdate().to_packet())  # Nothing has changed but this: somebody is alive here.


def newest_of(known: TrainerInstruction | None, heard: TrainerInstruction | None) -> TrainerInstruction | None:
    """What was heard last, unless it is of an older generation than what was known, or nothing."""
    if known is None or heard is None:
        return heard or known
    return known if heard.generation < known.generation else heard
