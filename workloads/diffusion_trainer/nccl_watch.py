"""Breaks a generation off whose NCCL has lost a peer: nobody else would tell the process that waits for the GPU.

A collective of gloo raises when a connection ends. One of NCCL is a kernel, which goes on waiting for the peer; torch
notes the error, and would take this process down for it (`TORCH_NCCL_ASYNC_ERROR_HANDLING`), with the state in memory.
"""

import logging
import threading

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import ErrorType  # torch.distributed does not export it

from diffusion_trainer.rendezvous import break_connections

log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1
"""As often as torch itself looks."""


class NcclWatch(threading.Thread):
    """Looks at the default group's NCCL until `stop`; `broken_off` is set on an error. Runs from its making."""

    def __init__(self, generation: int, broken_off: threading.Event) -> None:
        super().__init__(name="nccl watch", daemon=True)
        assert dist.group.WORLD is not None
        self._nccl = dist.group.WORLD._get_backend(torch.device("cuda"))
        self._generation, self._broken_off = generation, broken_off
        self._over = threading.Event()
        self.start()

    def stop(self) -> None:
        """The generation ends: an error says nothing any more."""
        self._over.set()

    def run(self) -> None:
        """The thread's own: look, and break the connections off once."""
        while not self._over.wait(_LOOK_SECONDS):
            if self._nccl.get_error() != ErrorType.SUCCESS:
                log.warning("generation %d: NCCL has lost a peer; breaking its connections", self._generation)
                break_connections(self._broken_off)
                return
