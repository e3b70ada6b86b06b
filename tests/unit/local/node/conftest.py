"""The stage of the tests of pod workers."""

from pathlib import Path

import pytest

from pretended_containers import Play, on_stage


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run a test with a worker whose containers are pretended."""
    return lambda test, pod: on_stage(test, pod, tmp_path, monkeypatch)
