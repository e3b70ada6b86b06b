"""Other ways to save the same tensors, for comparison: plain, with our promise but waiting for it, and torch's own."""

import os
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor
from torch._C._distributed_c10d import HashStore  # torch.distributed exports it too, but not to type checkers
from torch.distributed.checkpoint.state_dict_saver import async_save

from diffusion_contract.digest import sha256_of

Shards = Mapping[str, Mapping[str, Tensor]]


def save_plainly(shards: Shards, folder: Path) -> None:
    """`save_file`, neither synced nor hashed: what a training script does."""
    folder.mkdir(exist_ok=True)
    for name, tensors in shards.items():
        save_file(dict(tensors), folder / name)


def save_carefully(shards: Shards, folder: Path) -> None:
    """The promise of our checkpoints, kept while the training waits: digests, fsync of all, read back, one rename."""
    aside = folder.with_name(f"{folder.name}.new")
    save_plainly(shards, aside)
    digests = {}
    for name in shards:
        digests[name] = sha256_of((aside / name).read_bytes())
        _sync(aside / name)
    (aside / "MANIFEST.json").write_text(repr(digests))
    _sync(aside / "MANIFEST.json")
    _sync(aside)
    aside.rename(folder)
    _sync(folder.parent)
    for name, digest in digests.items():
        with (folder / name).open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if sha256_of(stream.read()) != digest:
                raise RuntimeError(f"{name} was not written as it was meant")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class TorchAsync:
    """`torch.distributed.checkpoint.async_save`, as it comes: it stages the tensors and writes them in a thread."""

    def __init__(self) -> None:
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        self._writing: Future[Any] | None = None

    def save(self, shards: Shards, folder: Path) -> None:
        """Stage, and go on while a thread writes."""
        state = {name: dict(tensors) for name, tensors in shards.items()}
        writing = async_save(state, checkpoint_id=folder)
        assert isinstance(writing, Future)  # another answer comes only from a stager of one's own
        self._writing = writing

    def wait(self, seconds: float) -> None:
        """Wait for what is still being written."""
        if self._writing is not None:
            self._writing.result(seconds)
            self._writing = None

    def close(self) -> None:
        """Take the process group down."""
        dist.destroy_process_group()
