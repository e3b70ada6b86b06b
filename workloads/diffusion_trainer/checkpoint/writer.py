"""The writer process: it takes snapshots from one trainer, commits, verifies and cleans up. It holds no tensors.

It is forked before anything else of the trainer starts, outlives a killed trainer for as long as it has a snapshot in
hand, and ends when the trainer's end of the socket is closed.
"""

import contextlib
import logging
import mmap
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from diffusion_contract.agent_messages import CheckpointReference
from diffusion_trainer.checkpoint.commit import commit_checkpoint, failure_of
from diffusion_trainer.checkpoint.fencing import Fenced, fence_level
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.pointer import point_away_from_damage
from diffusion_trainer.checkpoint.read_back import is_on_disk
from diffusion_trainer.checkpoint.retention import apply_retention
from diffusion_trainer.checkpoint.verification import (
    CheckpointInvalid,
    newest_digest_below,
    read_manifest,
    verify_checkpoint,
)
from diffusion_trainer.checkpoint.writer_messages import MAX_SHARDS, SaveOrder, SaveResult
from diffusion_trainer.log_lines import start_logging
from diffusion_trainer.packets import receive

Shards = Mapping[str, memoryview]
_NICE = 10
"""A tenth of a processor's time beside a thread of ordinary priority, all of it beside none."""
log = logging.getLogger(__name__)


def run_writer(trainer: socket.socket) -> int:
    """Serve save orders until the trainer goes away; returns the exit code.

    What is not urgent is served in a thread of lower priority, so that on few cores training goes first: a thread of
    its own, because without privileges no priority can be raised again. An urgent order waits for none of that. The
    one before it is committed, or the trainer would not have sent it; what may still go on is the reading back.
    """
    behind: Future[None] | None = None
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(_NICE,)) as niced:  # On Linux that of the thread alone.
        while True:
            packet, descriptors = receive(trainer, MAX_SHARDS)
            if not packet:
                break
            order = SaveOrder.model_validate_json(packet)
            if order.urgent:
                _serve_and_close(trainer, order, descriptors)
            else:
                behind = niced.submit(_serve_behind, trainer, order, descriptors)
    if behind is not None:
        behind.result()
    return 0


def _serve_behind(trainer: socket.socket, order: SaveOrder, descriptors: list[int]) -> None:
    """Serve beside the thread that listens; a fault ends its listening as well, and so the writer."""
    try:
        _serve_and_close(trainer, order, descriptors)
    except BaseException:
        with contextlib.suppress(OSError):  # The trainer is gone already.
            trainer.shutdown(socket.SHUT_RDWR)
        raise


def _serve_and_close(trainer: socket.socket, order: SaveOrder, descriptors: list[int]) -> None:
    try:
        serve_order(trainer, order, descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


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
        order.abandoned,
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
        point_away_from_damage(folder, order.manifest.attempt)
        return SaveResult(step=step, failure=failure_of(error))
    _retain(order)
    return SaveResult(step=step, verified=verified)


def _retain(order: SaveOrder) -> None:
    """Apply the retention, unless a newer attempt has taken over: what is kept is for that to say.

    A volume that cannot be listed at this moment keeps what it has, until the next save.
    """
    folder = Path(order.folder)
    try:
        if fence_level(folder) <= order.manifest.attempt:
            apply_retention(folder, order.retain_last, order.manifest.step, order.abandoned)
    except OSError as error:
        log.warning("older checkpoints stay for now: %s", error)


if __name__ == "__main__":
    start_logging("writer")
    sys.exit(run_writer(socket.socket(fileno=int(sys.argv[1]))))
