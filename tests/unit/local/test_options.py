"""What a cluster is asked to be, and whether one that runs is that."""

from pathlib import Path
from typing import Any

import pytest

from diffusion_local.options import ClusterOptions, ForwardTarget


def options(**fields: Any) -> ClusterOptions:
    return ClusterOptions(programs={}, **fields)


def test_only_what_was_chosen_counts() -> None:
    assert options(nodes=1, spot=2).differences(options(nodes=3), ["nodes"]) == ["nodes is 1, not 3"]
    assert options(nodes=1, spot=2).differences(options(nodes=1), ["nodes"]) == []
    target = ForwardTarget.parse("demo")
    assert options().differences(options(forward=target), ["forward"]) == ["forward is unset, not demo"]
    assert options(forward=target).differences(options(forward=target), ["forward", "gang"]) == []


def test_the_environment_always_counts() -> None:
    other = options(environment=Path("/b/.venv"))
    assert options(environment=Path("/a/.venv")).differences(other, []) == ["environment is /a/.venv, not /b/.venv"]


@pytest.mark.parametrize("text", ["demo", "ns/web:80", "ns/web:http"])
def test_a_target_reads_as_it_was_written(text: str) -> None:
    assert str(ForwardTarget.parse(text)) == text


def test_options_survive_their_file() -> None:
    written = options(nodes=3, forward=ForwardTarget.parse("ns/web:80"))
    assert ClusterOptions.model_validate_json(written.to_json()) == written
