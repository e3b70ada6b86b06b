"""One generation as a trainer process sees it: its place, its collectives, and accelerate set up for it."""

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn

from diffusion_contract.run_config import TrainingSpec
from diffusion_trainer.nccl_watch import NcclWatch
from diffusion_trainer.placement import Placement
from diffusion_trainer.rendezvous import PeersLost, WhyStop, leave_group, meet

_CHUNK_ELEMENTS = 16 * 1024 * 1024
_PRECISION = {"FP32": "no", "BF16": "bf16", "FP16": "fp16"}


class Group:
    """The processes of one generation. With a world of one there are no connections at all.

    Use as a context manager: on leaving it the group is taken down and accelerate forgets it. `broken_off` is set by
    whoever breaks its connections (`rendezvous.break_connections`).
    """

    def __init__(
        self,
        place: Placement,
        address: str,
        why_stop: WhyStop,
        seconds: float,
        broken_off: threading.Event | None = None,
    ) -> None:
        self.place, self._broken_off = place, broken_off or threading.Event()
        self.generation, self.rank, self.world = place.generation, place.rank, place.world
        self.closed = False
        self._store = meet(place, address, why_stop, seconds) if place.world > 1 else None
        # Kept for as long as this object, which is longer than DDP's reducer: whoever holds it last ends its threads,
        # and the reducer does that with the interpreter's lock, which one of these threads may be waiting for.
        self._process_group = dist.group.WORLD if self._store is not None else None
        uses_nccl = self._store is not None and torch.cuda.is_initialized()
        self._watch = NcclWatch(self.generation, self._broken_off) if uses_nccl else None

    def __enter__(self) -> "Group":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the group down. Peers that still wait for this rank see an error."""
        if self._watch is not None:
            self._watch.stop()
        forget_accelerate()
        leave_group()
        self._store = None
        self.closed = True

    def confirm(self, device: torch.device) -> None:
        """Wait until the collectives on `device` are done, and only then use what they gave: else raises PeersLost."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if self.world > 1 and self._broken_off.is_set():
            raise PeersLost(f"the connections of generation {self.generation} were broken off")

    def gather(self, row: Sequence[float]) -> Tensor:
        """Everyone's row, in rank order: float64 [world, len(row)]. Counts stay exact below 2**53."""
        mine = torch.tensor(row, dtype=torch.float64)
        if self.world == 1:
            return mine[None]
        rows = torch.empty((self.world, len(row)), dtype=torch.float64)
        dist.all_gather_into_tensor(rows, mine[None])
        return rows

    def gather_bytes(self, row: Tensor) -> Tensor:
        """Everyone's uint8 vector of the same length: uint8 [world, n]."""
        if self.world == 1:
            return row[None]
        rows = torch.empty((self.world, len(row)), dtype=torch.uint8)
        dist.all_gather_into_tensor(rows, row[None])
        return rows

    def broadcast_json(self, value: Any, source: int) -> Any:
        """The JSON document of the rank `source`, on every rank."""
        if self.world == 1:
            return value
        content = json.dumps(value).encode() if self.rank == source else b""
        length = torch.tensor([len(content)])
        dist.broadcast(length, source)
        buffer = torch.zeros(int(length.item()), dtype=torch.uint8)
        if self.rank == source:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(buffer, source)
        return json.loads(bytes(buffer.tolist()))

    def broadcast_tensors(self, tensors: Iterable[Tensor], source: int) -> None:
        """Overwrite these tensors, the same on every rank in shape and order, with those of the rank `source`.

        Where this raises, some of them may be overwritten.
        """
        if self.world == 1:
            return
        for chunk in _chunks(tensors):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in chunk])
            dist.broadcast(flat, source)
            self.confirm(flat.device)
            if self.rank != source:
                with torch.no_grad():
                    for tensor, part in zip(
                        chunk, torch.split(flat, [tensor.numel() for tensor in chunk]), strict=True
                    ):
                        tensor.copy_(part.view_as(tensor))


def _chunks(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Neighbours of one dtype and device together, up to 16 Mi elements: few messages, and little extra memory."""
    chunk: list[Tensor] = []
    for tensor in tensors:
        same = chunk and (chunk[0].dtype, chunk[0].device) == (tensor.dtype, tensor.device)
        if chunk and not (same and sum(part.numel() for part in chunk) + tensor.numel() <= _CHUNK_ELEMENTS):
            yield chunk
            chunk = []
        chunk.append(tensor)
    if chunk:
        yield chunk


def make_accelerator(place: Placement, training: TrainingSpec, device: torch.device) -> Accelerator:
    """Accelerate for this generation: precision, and DDP over the group that stands already."""
    if place.world == 1:  # As set for a generation before, they would have accelerate wait for peers.
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            os.environ.pop(name, None)
    forget_accelerate()
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=_PRECISION[training.precision],
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )


def forget_accelerate() -> None:
    """Drop accelerate's process-wide state, so that the next generation starts from a clean one."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    PartialState._reset_state()


def unwrap(model: nn.Module) -> None:
    """Take back what accelerate has put on a model that it prepared: a second one will prepare it again."""
    with contextlib.suppress(AttributeError):
        del model._is_accelerate_prepared
    original = model.__dict__.pop("_original_forward", None)
    if original is not None:
        model.__dict__.pop("forward", None)
