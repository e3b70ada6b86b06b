"""How `make demo` ends: what it says, what it leaves, and with which exit code."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from diffusion_local import launch
from diffusion_local.cluster import Cluster
from diffusion_local.cluster_lock import one_at_a_time
from diffusion_local.demo import __main__ as demo
from diffusion_local.demo import quickstart
from diffusion_local.demo.cluster_commands import ClusterCommands, CommandFailed
from diffusion_local.demo.narration import Narration
from diffusion_local.demo.quickstart import Quickstart
from diffusion_local.demo.serving_scene import ImagesClient
from diffusion_local.errors import LocalClusterError
from diffusion_local.lifetimes import ProcessIdentity
from diffusion_local.options import ClusterOptions
from diffusion_local.own_command import own_command
from diffusion_local.state import HOME_VARIABLE, StateFolder

Play = Callable[..., Result]


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """Give the test run its signals back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to the cluster, in place of a cluster."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    happened: list[str] = []

    def bring_up(name: str, wanted: dict[str, Any], chosen: object, *, owned: bool, renewed: bool) -> Cluster:
        assert renewed
        happened.append(f"up {name}, owned: {owned}, forward: {wanted['forward']}")
        folder = StateFolder.of(name)
        folder.create()
        folder.config.write_text(ClusterOptions(programs={}, **wanted).to_json())
        return Cluster(folder)

    monkeypatch.setattr(quickstart, "bring_up", bring_up)
    monkeypatch.setattr(Cluster, "stop", lambda _: happened.append("stopped"))
    monkeypatch.setattr(launch, "running", lambda _: ProcessIdentity(1, 0, "") if "stopped" not in happened else None)
    return happened


def test_what_to_type_next_can_be_typed_wherever_files_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "a $place"))
    folder = StateFolder.of("demo")
    folder.create()
    folder.config.write_text(ClusterOptions(programs={}).to_json())
    (folder.root / "demo-api-key").write_text("dk-secret")
    story = Quickstart(Narration(), "demo", tmp_path)
    story.__dict__["cluster"] = Cluster(folder)
    story.say_what_next("true")
    said = capsys.readouterr().out
    shown = said[said.index("  curl") : said.index("For kubectl")]
    typed = subprocess.run(
        ["sh", "-c", f"curl() {{ printf '%s\\n' \"$@\"; }}\n{shown}"], capture_output=True, text=True
    )
    assert "Authorization: Bearer dk-secret" in typed.stdout.splitlines()
    export = said.splitlines()[-2].partition(": ")[2]
    typed = subprocess.run(["sh", "-c", f'{export}; printf %s "$KUBECONFIG"'], capture_output=True, text=True)
    assert typed.stdout == str(folder.kubeconfig)


@pytest.fixture
def play(events: list[str], monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run the demo with one chapter that does `happens`, and options."""

    def play(happens: Callable[[], object], *options: str) -> Result:
        def story(self: Quickstart) -> None:
            assert self.cluster
            happens()

        monkeypatch.setattr(Quickstart, "play", story)
        return CliRunner().invoke(demo.main, options)

    return play


def fail(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


ENDS: list[tuple[Callable[[], object], int]] = [
    (lambda: None, 0),
    (fail(CommandFailed("kubectl: [Errno 2] [a/b]")), 1),
    (fail(LocalClusterError("[it]")), 1),
    (fail(ConnectionResetError("[reset]")), 1),
    (fail(KeyboardInterrupt()), 130),
    (lambda: os.kill(os.getpid(), signal.SIGTERM), 143),
    (lambda: os.kill(os.getpid(), signal.SIGHUP), 129),
]


@pytest.mark.parametrize(("happens", "code"), ENDS)
def test_with_keep_0_the_cluster_is_owned_and_goes_however_the_story_ends(
    play: Play, events: list[str], happens: Callable[[], object], code: int
) -> None:
    assert play(happens, "--stop").exit_code == code
    assert events == ["up demo, owned: True, forward: demo", "stopped"]


def test_a_second_demo_on_the_cluster_waits_for_the_first_to_end(
    play: Play, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would take each other's namespace and spot node away."""
    asides: list[str] = []
    first = contextlib.ExitStack()
    first.enter_context(one_at_a_time(StateFolder.of("demo").demo_lock, lambda: None))

    def explain(_: Narration, text: str) -> None:
        asides.append(text)
        assert events == []
        threading.Timer(0.2, first.close).start()

    monkeypatch.setattr(Narration, "explain", explain)
    assert play(lambda: events.append("played"), "--stop").exit_code == 0
    assert asides == ["another demo uses the cluster 'demo'; waiting for its end"]
    assert events == ["up demo, owned: True, forward: demo", "played", "stopped"]
    assert not StateFolder.of("demo").demo_lock.exists()


def test_with_keep_0_the_next_demo_begins_when_the_cluster_has_gone(
    play: Play, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    monkeypatch.setattr(Cluster, "stop", lambda _: held.append(StateFolder.of("demo").demo_lock.exists()))
    assert play(lambda: None, "--stop").exit_code == 0
    assert held == [True]


def test_with_keep_0_it_goes_with_a_bug_too(play: Play, events: list[str]) -> None:
    assert isinstance(play(fail(ZeroDivisionError()), "--stop").exception, ZeroDivisionError)
    assert events[-1] == "stopped"


@pytest.mark.parametrize(("happens", "code"), ENDS)
def test_else_it_stays_and_how_to_stop_it_is_said(
    play: Play, events: list[str], happens: Callable[[], object], code: int
) -> None:
    result = play(happens)
    assert result.exit_code == code
    assert events == ["up demo, owned: False, forward: demo"]
    assert "make down" in result.output
    assert "The cluster is up" in result.output


def test_a_cluster_of_another_checkout_is_not_said_to_end_with_make_down(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *_: object, **__: object) -> Cluster:
        folder = StateFolder.of(name)
        folder.create()
        folder.config.write_text(ClusterOptions(programs={}, environment=Path("/another/.venv")).to_json())
        raise LocalClusterError("is up already, but not as asked")

    monkeypatch.setattr(quickstart, "bring_up", refuse)
    result = CliRunner().invoke(demo.main, [])
    assert result.exit_code == 1
    assert "make down" not in result.output
    assert f"stop it, another checkout's, with `{own_command('demo')} down`." in result.output


def test_an_error_is_one_sentence_with_all_its_brackets(play: Play) -> None:
    result = play(fail(CommandFailed("kubectl: [Errno 2] [a/b]")))
    assert "error: kubectl: [Errno 2] [a/b]\n" in result.output


TELLING = """
from diffusion_contract.console_scripts import standard_output
from diffusion_local.demo import __main__ as demo
demo.Quickstart.play = lambda self: self.narration.tell("once upon a time")
with standard_output():
    demo.main(["--name", "never-started"])
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_the_story_is_told_once(tmp_path: Path, unbuffered: str) -> None:
    variables = os.environ | {HOME_VARIABLE: str(tmp_path), "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", TELLING], stdout=full, stderr=subprocess.PIPE, env=variables, text=True, timeout=120
        )
    assert done.stderr == "Error: standard output cannot be written: No space left on device\n"
    assert done.returncode == 1


def test_a_cluster_that_did_not_come_up_is_not_said_to_be_up(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Cluster:
        raise LocalClusterError("this machine refuses user namespaces")

    monkeypatch.setattr(quickstart, "bring_up", refuse)
    monkeypatch.setattr(launch, "running", lambda _: None)
    for options in ([], ["--stop"]):
        result = CliRunner().invoke(demo.main, options)
        assert result.exit_code == 1
        assert "error: this machine refuses user namespaces" in result.output
        assert "is up;" not in result.output
    assert not events


@pytest.mark.parametrize(("share", "code"), [(0.95, 0), (0.9, 0), (0.89, 1)])
def test_digits_that_the_judge_does_not_recognise_fail_the_demo(
    events: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float, code: int
) -> None:
    class Judge:
        held_out_accuracy = 0.98

        def share_recognised(self, *_: object) -> float:
            return share

    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    pictures = [np.zeros((8, 8), np.uint8)] * 100
    monkeypatch.setattr(quickstart, "ensure", lambda names, _: dict.fromkeys(names, Path("/bin/false")))
    monkeypatch.setattr(ClusterCommands, "get", lambda *_: ready)
    monkeypatch.setattr(ImagesClient, "generate_all", lambda *_: pictures)
    monkeypatch.setattr(quickstart, "train_digit_judge", Judge)
    monkeypatch.setattr(Quickstart, "play", lambda self: self.draw_the_digits())
    result = CliRunner().invoke(demo.main, ["--output", str(tmp_path / "pictures")])
    assert result.exit_code == code
    assert (tmp_path / "pictures" / "digits.png").exists()
    assert ("error: the judge must recognise 90% of the digits and recognises 89.0%" in result.output) == bool(code)
