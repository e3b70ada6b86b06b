"""All random generators of one process as one uint8 vector of fixed length: python, numpy, torch and the accelerator.

The noise of a training step comes from none of them (it is a function of the seed and the sample's position); they
feed drop-out inside networks and whatever else a library draws. Each step seeds them, so that the masks of a step are
the same whatever happened before it; a checkpoint has them for what draws in between.
"""

import random
import struct

import numpy as np
import torch
from torch import Tensor

_PYTHON = struct.Struct("<625I?d")
_NUMPY = struct.Struct("<624IiId")
_CUDA_BYTES = 16


def capture() -> Tensor:
    """The state of every generator of this process: uint8 [n], n the same in every process of one build."""
    parts = [_python_state(), _numpy_state(), torch.get_rng_state().numpy().tobytes(), _cuda_state()]
    return torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)


def restore(state: Tensor) -> None:
    """Set every generator as `capture` found it. Raises ValueError for a vector of another length."""
    content = state.numpy().tobytes()
    length = len(capture())
    if len(content) != length:
        raise ValueError(f"the state of the random generators has {len(content)} bytes; here it has {length}")
    *words, has_gauss, gauss = _PYTHON.unpack_from(content)
    random.setstate((3, tuple(words), gauss if has_gauss else None))
    *keys, position, has_cached, cached = _NUMPY.unpack_from(content, _PYTHON.size)
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_cached, cached))
    torch.set_rng_state(
        torch.frombuffer(bytearray(content[_PYTHON.size + _NUMPY.size : -_CUDA_BYTES]), dtype=torch.uint8)
    )
    if torch.cuda.is_initialized():
        torch.cuda.set_rng_state(torch.frombuffer(bytearray(content[-_CUDA_BYTES:]), dtype=torch.uint8))


def seed_all(seed: int, step: int, rank: int) -> None:
    """Start all generators of a rank for one step: a function of (seed, step, rank)."""
    words = np.random.SeedSequence((seed, step, rank)).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))
    torch.manual_seed(int(words[1]))


def _python_state() -> bytes:
    _version, words, gauss = random.getstate()
    return _PYTHON.pack(*words, gauss is not None, gauss or 0.0)


def _numpy_state() -> bytes:
    _name, keys, position, has_cached, cached = np.random.get_state()
    return _NUMPY.pack(*(int(key) for key in keys), position, has_cached, cached)


def _cuda_state() -> bytes:
    if not torch.cuda.is_initialized():
        return bytes(_CUDA_BYTES)
    return torch.cuda.get_rng_state().numpy().tobytes().ljust(_CUDA_BYTES, b"\0")
