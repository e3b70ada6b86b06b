"""The writer process: it takes snapshots from one trainer, commits, verifies and cleans up. It holds no tensors.

It is forked before anything else of the trainer starts, outlives a killed trainer for as long as it has a snapshot in
hand, and ends when the trainer's end of the socket is closed.
"""

import concurrent.futures
import contextlib
import functools
import logging
import mmap
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from diffusion_contract.agent_messages import CheckpointReference
from diffusion_trainer.checkpoint.commit import commit_checkpoint, failure_of, point_away_from_damage
from diffusion_trainer.checkpoint.fencing import Fenced, fence_level
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.read_back import is_on_disk
from diffusion_trainer.checkpoint.retention import apply_retention
from diffusion_trainer.checkpoint.verification import (
    CheckpointInvalid,
    newest_digest_below,
    read_manifest,
    verify_checkpoint,
)
from diffusion_trainer.checkpoint.writer_messages import MAX_SHARDS, PACKET_BYTES, SaveOrder, SaveResult
from diffusion_trainer.log_lines import start_logging

Shards = Mapping[str, memoryview]
_NICE = 10
"""A tenth of a processor's time beside a thread of ordinary priority, all of it beside none."""
log = logging.getLogger(__name__)


def run_writer(trainer: socket.socket) -> int:
    """Serve save orders until the trainer goes away; returns the exit code."""
    while True:
        packet, descriptors, _flags, _address = socket.recv_fds(trainer, PACKET_BYTES, MAX_SHARDS)
        if not packet:
            return 0
        try:
            order = SaveOrder.model_validate_json(packet)
            serve = functools.partial(serve_order, trainer, order, descriptors)
            serve() if order.urgent else _behind(serve)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _behind(serve: Callable[[], None]) -> None:
    """Serve in a thread of lower priority, so that on few cores training goes first.

    A thread, because its priority ends with it: without privileges none can be raised again. Whoever is in a hurry
    waits for the writer, and so leaves it the processor.
    """

    def niced() -> None:
        os.nice(_NICE)  # On Linux that of the calling thread alone.
        serve()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(niced).result()


def serve_order(trainer: socket.socket, order: SaveOrder, descriptors: list[int]) -> None:
    """Commit one snapshot and say so; then verify it by reading it back, and apply the retention."""
    started = time.monotonic()
    step = order.manifest.step
    with _mapped(order, descriptors) as shards:
        try:
            committed = _commit(order, shards)
        except (OSError, Fenced) as error:
            log.warning("save of step %d failed: %s", step, failure_of(error).message)
            answer(trainer, SaveResult(step=step, failure=failure_of(error)))
            return
        seconds = time.monotonic() - started
        log.info("checkpoint of step %d committed in %.2f s: %s", step, seconds, committed.digest)
        answer(trainer, SaveResult(step=step, committed=committed, seconds=seconds))
        answer(trainer, _verify_and_retain(order, committed, shards))


def answer(trainer: socket.socket, result: SaveResult) -> None:
    """Tell the trainer; a trainer that is gone is no reason to stop in the middle."""
    try:
        trainer.send(result.model_dump_json(by_alias=True).encode())
    except (BrokenPipeError, ConnectionResetError):
        log.info("the trainer is gone; step %d was handled all the same", result.step)


@contextlib.contextmanager
def _mapped(order: SaveOrder, descriptors: list[int]) -> Iterator[Shards]:
    """The snapshot's files by name, as memory."""
    with contextlib.ExitStack() as open_maps:
        shards = {}
        for shard, descriptor in zip(order.shards, descriptors, strict=True):
            image = open_maps.enter_context(mmap.mmap(descriptor, shard.size, prot=mmap.PROT_READ))
            shards[shard.name] = open_maps.enter_context(memoryview(image))
        yield shards


def _commit(order: SaveOrder, shards: Shards) -> CheckpointReference:
    parent = newest_digest_below(Path(order.folder), order.manifest.step, order.abandoned)
    return commit_checkpoint(
        Path(order.folder),
        order.manifest.step,
        order.manifest.attempt,
        shards,
        lambda files: order.manifest.model_copy(update={"files": files, "parent": parent}),
    )


def _read_back(folder: Path, run_uid: str, committed: CheckpointReference, shards: Shards) -> CheckpointReference:
    """What is on the disk: the snapshot byte for byte, or else (it may be another writer's) what its digests say."""
    manifest = read_manifest(folder)
    ours = manifest.reference() == committed and manifest.files.keys() == shards.keys()
    if ours and all(is_on_disk(folder / name, content) for name, content in shards.items()):
        return committed
    return verify_checkpoint(folder, run_uid).reference


def _verify_and_retain(order: SaveOrder, committed: CheckpointReference, shards: Shards) -> SaveResult:
    folder, step = Path(order.folder), order.manifest.step
    try:
        verified = _read_back(folder / committed_name(step), order.manifest.run_uid, committed, shards)
    except CheckpointInvalid as error:
        log.error("the checkpoint of step %d does not hold: %s", step, error)
        point_away_from_damage(folder)
        return SaveResult(step=step, failure=failure_of(error))
    fenced = fence_level(folder) > order.manifest.attempt  # What is kept is for the newer attempt to say.
    removed = [] if fenced else apply_retention(folder, order.retain_last, step)
    return SaveResult(step=step, verified=verified, removed=tuple(removed))


if __name__ == "__main__":
    start_logging("writer")
    sys.exit(run_writer(socket.socket(fileno=int(sys.argv[1]))))
