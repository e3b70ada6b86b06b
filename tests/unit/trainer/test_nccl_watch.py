"""A generation whose NCCL has lost a peer is broken off, though a kernel would wait for ever. With a pretended NCCL."""

import threading
from types import SimpleNamespace

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import ErrorType

from deadline import wait_until
from diffusion_trainer import nccl_watch
from diffusion_trainer.nccl_watch import NcclWatch


class PretendedNccl:
    """What torch says of NCCL: no error, until there is one. It counts how often it was asked."""

    def __init__(self) -> None:
        self.error, self.asked = ErrorType.SUCCESS, 0

    def get_error(self) -> ErrorType:
        self.asked += 1
        return self.error


@pytest.fixture
def nccl(monkeypatch: pytest.MonkeyPatch) -> PretendedNccl:
    nccl = PretendedNccl()
    group = SimpleNamespace(WORLD=SimpleNamespace(_get_backend=lambda _device: nccl))
    monkeypatch.setattr(dist, "group", group)
    monkeypatch.setattr(nccl_watch, "break_connections", threading.Event.set)
    return nccl


@pytest.mark.parametrize("error", [ErrorType.REMOTE_ERROR, ErrorType.COMM_ERROR, ErrorType.TIMEOUT])
def test_an_error_breaks_the_generation_off(nccl: PretendedNccl, error: ErrorType) -> None:
    broken_off = threading.Event()
    NcclWatch(3, broken_off)
    wait_until(lambda: nccl.asked > 1, 60, "it looks again and again")
    assert not broken_off.is_set()
    nccl.error = error
    assert broken_off.wait(60)


def test_an_error_after_the_end_of_the_generation_breaks_nothing(nccl: PretendedNccl) -> None:
    broken_off = threading.Event()
    watch = NcclWatch(3, broken_off)
    watch.stop()
    nccl.error = ErrorType.REMOTE_ERROR
    watch.join(60)
    assert not broken_off.is_set()
