"""A shard's image is the file itself: any safetensors reader takes it."""

import os
from contextlib import closing

import pytest
import torch
from safetensors.torch import load

from diffusion_trainer.checkpoint.shard_image import ShardImage


def content_of(image: ShardImage) -> bytes:
    return os.pread(image.descriptor, image.size, 0)


def test_it_is_what_safetensors_reads() -> None:
    tensors = {
        "weights": torch.randn(3, 5),
        "half": torch.randn(7).to(torch.bfloat16),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "double": torch.randn(2, dtype=torch.float64),
        "scalar": torch.tensor(4, dtype=torch.int64),
    }
    with closing(ShardImage("model.safetensors", tensors)) as image:
        image.fill(tensors)
        stored = load(content_of(image))
    assert stored.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert stored[name].dtype == tensor.dtype
        assert torch.equal(stored[name], tensor)


def test_a_snapshot_is_a_copy_and_can_be_taken_again() -> None:
    tensors = {"a": torch.zeros(4)}
    with closing(ShardImage("a", tensors)) as image:
        image.fill(tensors)
        tensors["a"] += 1
        assert load(content_of(image))["a"].tolist() == [0, 0, 0, 0]
        image.fill(tensors)
        assert load(content_of(image))["a"].tolist() == [1, 1, 1, 1]


def test_it_says_which_tensors_fit_and_misses_none() -> None:
    with closing(ShardImage("a", {"a": torch.zeros(2, 3)})) as image:
        assert image.fits({"a": torch.ones(2, 3)})
        assert not image.fits({"a": torch.ones(3, 2)})
        assert not image.fits({"a": torch.ones(2, 3), "b": torch.ones(1)})
        with pytest.raises(KeyError):
            image.fill({"b": torch.ones(2, 3)})
