"""What tests of training in one process share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from saver_bench import Bench


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The same sums in the same order, run after run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A saver whose writer is played by the test."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()
