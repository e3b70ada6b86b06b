"""The mouth of a trainer process: what its agent hears of it, from whichever of its threads."""

import threading
import time
from collections.abc import Callable

from diffusion_trainer.process_messages import ProcessUpdate


class Reporter:
    """Tells through `send`. Progress goes out at most twice a second, everything else at once."""

    PROGRESS_SECONDS = 0.5

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._next_progress = 0.0

    def tell(self, **changed: object) -> None:
        """Report these fields of a ProcessUpdate at once."""
        packet = ProcessUpdate.model_validate(changed).to_packet()
        with self._lock:
            self._send(packet)

    def progress_is_due(self) -> bool:
        """True at most twice a second."""
        now = time.monotonic()
        if now < self._next_progress:
            return False
        self._next_progress = now + self.PROGRESS_SECONDS
        return True
