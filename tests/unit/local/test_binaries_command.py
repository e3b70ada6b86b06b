"""`python -m diffusion_local.binaries`: what the machine lacks is said at once, in one line."""

import shutil

import pytest
from click.testing import CliRunner

from diffusion_local import launch
from diffusion_local.binaries import __main__ as command
from diffusion_local.errors import LocalClusterError


def test_a_machine_that_cannot_run_a_cluster_builds_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise LocalClusterError("this machine refuses user namespaces: allow them")

    monkeypatch.setattr(launch, "check_machine", refuse)
    monkeypatch.setattr(command, "ensure", lambda *_: pytest.fail("nothing is to be built"))
    result = CliRunner().invoke(command.main)
    assert (result.exit_code, result.output) == (1, "error: this machine refuses user namespaces: allow them\n")


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "ip" else f"/usr/bin/{tool}")
    result = CliRunner().invoke(command.main)
    assert (result.exit_code, result.output) == (1, "error: the command ip is missing: install the package iproute2\n")
