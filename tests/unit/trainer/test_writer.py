"""The writer process's work on one order: what it commits it reads back, from the disk and with doubt."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoint_samples import commit_sample, manifest_for, shards_for
from diffusion_contract.agent_messages import CheckpointReference
from diffusion_trainer.checkpoint import pointer
from diffusion_trainer.checkpoint import writer as writer_module
from diffusion_trainer.checkpoint.commit import commit_checkpoint
from diffusion_trainer.checkpoint.fencing import raise_fence
from diffusion_trainer.checkpoint.names import committed_steps
from diffusion_trainer.checkpoint.read_back import is_on_disk
from diffusion_trainer.checkpoint.writer import run_writer, serve_order
from diffusion_trainer.checkpoint.writer_messages import SaveOrder, SaveResult, ShardSize
from diffusion_trainer.packets import PACKET_BYTES, packet_pair

Ends = tuple[socket.socket, socket.socket]
"""The trainer's end of the channel, and the writer's."""


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = packet_pair()
    with ours, theirs:
        ours.settimeout(60)
        yield ours, theirs


def snapshot(content: bytes) -> int:
    descriptor = os.memfd_create("snapshot")
    os.write(descriptor, content)
    return descriptor


def serve(ends: Ends, folder: Path, step: int) -> list[SaveResult]:
    """Have one sample written; everything that the writer says of it."""
    ours, theirs = ends
    shards = shards_for(step)
    sizes = tuple(ShardSize(name=name, size=len(content)) for name, content in shards.items())
    order = SaveOrder(folder=str(folder), manifest=manifest_for(step), shards=sizes, retain_last=2)
    descriptors = [snapshot(content) for content in shards.values()]
    try:
        serve_order(theirs, order, descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    theirs.shutdown(socket.SHUT_WR)
    return [SaveResult.model_validate_json(packet) for packet in iter(lambda: ours.recv(PACKET_BYTES), b"")]


def test_a_commit_is_read_back_from_the_disk(ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def note(path: Path, content: memoryview) -> bool:
        looked_at.append(path.name)
        return is_on_disk(path, content)

    monkeypatch.setattr(writer_module, "is_on_disk", note)
    committed, verified = serve(ends, tmp_path, 3)
    assert committed.committed == verified.verified
    assert looked_at[0] == "model.safetensors"


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "MANIFEST.json"])
def test_damage_between_the_commit_and_the_reading_back_is_found(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original = writer_module._read_back

    def damage_first(folder: Path, *given: Any) -> CheckpointReference:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        return original(folder, *given)

    monkeypatch.setattr(writer_module, "_read_back", damage_first)
    committed, verified = serve(ends, tmp_path, 3)
    assert committed.committed is not None
    assert verified.verified is None
    assert verified.failure is not None
    assert verified.failure.reason == "SaveFailed"
    assert name in verified.failure.message or name == "MANIFEST.json"


@pytest.mark.parametrize("urgent", [True, False])
def test_only_a_save_that_nobody_waits_for_is_written_at_a_lower_priority(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, urgent: bool
) -> None:
    ours, theirs = ends
    found: list[int] = []
    monkeypatch.setattr(writer_module, "serve_order", lambda *_given: found.append(os.nice(0)))
    usual = os.nice(0)
    shards = (ShardSize(name="model.safetensors", size=4),)
    order = SaveOrder(folder=str(tmp_path), manifest=manifest_for(3), shards=shards, retain_last=2, urgent=urgent)
    descriptor = snapshot(b"1234")
    for _ in range(2):
        socket.send_fds(ours, [order.model_dump_json(by_alias=True).encode()], [descriptor])
    os.close(descriptor)
    ours.shutdown(socket.SHUT_WR)
    assert run_writer(theirs) == 0
    assert found == [usual if urgent else min(19, usual + 10)] * 2
    assert os.nice(0) == usual, "priority lost can not be had again"


def order_of(ends: Ends, folder: Path, step: int, urgent: bool) -> None:
    shards = shards_for(step)
    sizes = tuple(ShardSize(name=name, size=len(content)) for name, content in shards.items())
    order = SaveOrder(folder=str(folder), manifest=manifest_for(step), shards=sizes, retain_last=2, urgent=urgent)
    descriptors = [snapshot(content) for content in shards.values()]
    socket.send_fds(ends[0], [order.model_dump_json(by_alias=True).encode()], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def test_an_urgent_save_does_not_wait_until_the_one_before_is_read_back(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, go_on = writer_module._read_back, threading.Event()

    def slowly(folder: Path, *given: Any) -> CheckpointReference:
        assert folder.name != "step-00000003" or go_on.wait(60)
        return original(folder, *given)

    monkeypatch.setattr(writer_module, "_read_back", slowly)
    writer = threading.Thread(target=run_writer, args=(ends[1],))
    writer.start()
    try:
        order_of(ends, tmp_path, 3, urgent=False)
        assert committed_step(answer_from(ends)) == 3
        order_of(ends, tmp_path, 4, urgent=True)
        assert committed_step(answer_from(ends)) == 4
        assert verified_step(answer_from(ends)) == 4
    finally:
        go_on.set()
        ends[0].shutdown(socket.SHUT_WR)
        writer.join(60)
    assert verified_step(answer_from(ends)) == 3


def committed_step(answer: SaveResult) -> int | None:
    return None if answer.committed is None else answer.committed.step


def verified_step(answer: SaveResult) -> int | None:
    return None if answer.verified is None else answer.verified.step


def answer_from(ends: Ends) -> SaveResult:
    return SaveResult.model_validate_json(ends[0].recv(PACKET_BYTES))


def test_a_volume_that_cannot_be_listed_ends_no_writer(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(writer_module, "fence_level", refuse)
    committed, verified = serve(ends, tmp_path, 3)
    assert committed.committed == verified.verified


def test_a_volume_that_cannot_be_listed_keeps_its_pointer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    commit_sample(tmp_path, 2)
    monkeypatch.setattr(pointer, "find_newest", refuse)
    pointer.point_away_from_damage(tmp_path, attempt=0)
    assert (tmp_path / "latest").read_text() == "step-00000002\n"


def test_a_fault_at_a_lower_priority_ends_the_writer_as_any_other(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_given: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(writer_module, "serve_order", fail)
    order = SaveOrder(folder=str(tmp_path), manifest=manifest_for(3), shards=(), retain_last=2)
    ends[0].send(order.model_dump_json(by_alias=True).encode())
    with pytest.raises(KeyError, match="a bug"):
        run_writer(ends[1])


def damage_before_the_reading_back(monkeypatch: pytest.MonkeyPatch) -> None:
    original = writer_module._read_back

    def damage_first(folder: Path, *given: Any) -> CheckpointReference:
        (folder / "ema.safetensors").write_bytes(b"damaged")
        return original(folder, *given)

    monkeypatch.setattr(writer_module, "_read_back", damage_first)


def test_the_pointer_moves_off_a_damaged_step(ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_sample(tmp_path, 2)
    damage_before_the_reading_back(monkeypatch)
    assert serve(ends, tmp_path, 3)[1].failure is not None
    assert (tmp_path / "latest").read_text() == "step-00000002\n"


def test_an_attempt_that_was_shut_out_meanwhile_removes_nothing(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        commit_sample(tmp_path, step)
    original = writer_module._read_back

    def newer_attempt_opens(*given: Any) -> CheckpointReference:
        raise_fence(tmp_path, 1)
        return original(*given)

    monkeypatch.setattr(writer_module, "_read_back", newer_attempt_opens)
    assert serve(ends, tmp_path, 3)[1].verified is not None
    assert committed_steps(tmp_path) == [3, 2, 1]


def test_where_comparing_proves_nothing_the_digests_do(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "is_on_disk", lambda _path, _content: False)
    committed, verified = serve(ends, tmp_path, 3)
    assert committed.committed == verified.verified


def test_the_checkpoint_of_another_writer_is_verified_by_its_digests(ends: Ends, tmp_path: Path) -> None:
    shards = {"model.safetensors": b"other bytes of the same step"}
    there = commit_checkpoint(tmp_path, 3, 0, shards, lambda files: manifest_for(3, 0, files))
    committed, verified = serve(ends, tmp_path, 3)
    assert committed.committed == verified.verified == there


def test_nothing_goes_for_a_commit_that_does_not_hold(
    ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the two newest could both be damaged, and the newest that holds be gone."""
    for step in (1, 2):
        commit_sample(tmp_path, step)
    (tmp_path / "step-00000002" / "ema.safetensors").write_bytes(b"damaged")
    damage_before_the_reading_back(monkeypatch)
    assert serve(ends, tmp_path, 3)[1].failure is not None
    assert committed_steps(tmp_path) == [3, 2, 1]


def test_what_was_handed_over_is_saved_though_the_trainer_left_answers_unread(ends: Ends, tmp_path: Path) -> None:
    ours, theirs = packet_pair()
    with theirs:
        theirs.send(SaveResult(step=2).model_dump_json(by_alias=True).encode())
        order_of((ours, theirs), tmp_path, 3, urgent=False)
        ours.close()  # As the kernel does for a trainer that is killed.
        assert run_writer(theirs) == 0
    assert committed_steps(tmp_path) == [3]
