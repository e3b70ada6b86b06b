"""`diffusion-trainer` on a terminal, and the link to an operator that comes and goes."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from checkpoint_samples import commit_sample
from deadline import wait_until
from diffusion_contract.agent_channel import AgentChannel, ChannelInterrupted, ChannelUnavailable
from diffusion_contract.agent_messages import PollAnswer, PollRequest, TrainerInstruction, TrainerReport
from diffusion_trainer import operator_link
from diffusion_trainer.command import main
from diffusion_trainer.operator_link import OperatorLink


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", [[], ["agent"], ["run"], ["checkpoints"], ["digest"]])
def test_each_command_explains_itself(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_version_is_told() -> None:
    assert "0.1.0" in run("--version").output


def test_checkpoints_are_listed_with_a_verdict(tmp_path: Path) -> None:
    good, bad = commit_sample(tmp_path / "a" / "uid", 4), commit_sample(tmp_path / "a" / "uid", 8)
    result = run("checkpoints", tmp_path)
    assert result.exit_code == 0
    assert f"step 8  {bad.time}  {bad.digest}  holds" in result.output
    (tmp_path / "a/uid/step-00000008/ema.safetensors").write_bytes(b"")
    result = run("checkpoints", tmp_path)
    assert result.exit_code == 1
    assert "step 8  DOES NOT HOLD: ema.safetensors has 0 bytes, its manifest says 80" in result.output
    assert f"step 4  {good.time}  {good.digest}  holds" in result.output


def test_a_folder_without_checkpoints_is_no_success(tmp_path: Path) -> None:
    result = run("checkpoints", tmp_path)
    assert (result.exit_code, "no checkpoints below" in result.output) == (1, True)


def test_the_digest_of_a_dataset_is_printed(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"")
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert run("digest", tmp_path / "a.npz").output.strip() == empty
    assert run("digest", tmp_path / "none").exit_code == 2


def test_the_agent_says_what_it_misses() -> None:
    result = CliRunner(env={"DIFFUSION_AGENT_URL": ""}).invoke(main, ["agent"])
    assert result.exit_code == 2
    assert "DIFFUSION_AGENT_URL is not set" in result.output


class ScriptedChannel(AgentChannel):
    """A channel whose polls end as the test says: with an answer, with an error, or (None) held until interrupted."""

    def __init__(self, *ends: PollAnswer | Exception | None) -> None:
        self.ends = list(ends)
        self.polls: list[PollRequest] = []
        self.interrupted = threading.Event()

    def poll(self, request: PollRequest, timeout: float | None = None) -> PollAnswer:
        self.polls.append(request)
        end = self.ends.pop(0) if self.ends else None
        if isinstance(end, Exception):
            raise end
        if end is None and request.wait_seconds == 0:
            return PollAnswer()
        if end is None:
            self.interrupted.wait(60)
            self.interrupted.clear()
            raise ChannelInterrupted("interrupted")
        return end

    def interrupt(self) -> None:
        self.interrupted.set()


MakeLink = Callable[[ScriptedChannel, list[int], list[object]], OperatorLink]


@pytest.fixture
def make_link(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeLink]:
    monkeypatch.setattr(operator_link, "FIRST_PAUSE_SECONDS", 0.01)
    links: list[OperatorLink] = []

    def make(channel: ScriptedChannel, step: list[int], heard: list[object]) -> OperatorLink:
        def report() -> tuple[TrainerReport, float]:
            return TrainerReport(attempt=0, state="Training", step=step[0]), 25.0

        links.append(OperatorLink(channel, report, heard.append))
        links[-1].start()
        return links[-1]

    yield make
    for link in links:
        link.finish(60)


def test_news_end_a_held_poll_and_the_next_one_carries_them(make_link: MakeLink) -> None:
    channel, step = ScriptedChannel(None), [1]
    link = make_link(channel, step, [])
    wait_until(lambda: channel.polls, 20, "a first poll")
    step[0] = 2
    link.tell_now()
    wait_until(lambda: len(channel.polls) > 1, 20, "a second poll")
    said = [poll.report for poll in channel.polls[:2]]
    assert [report.step for report in said if isinstance(report, TrainerReport)] == [1, 2]


def test_an_operator_that_is_away_is_asked_again_and_its_instruction_told_once(make_link: MakeLink) -> None:
    instruction = TrainerInstruction(attempt=0, generation=3)
    answer = PollAnswer(revision="r", instruction=instruction)
    channel = ScriptedChannel(ChannelUnavailable("away"), ChannelUnavailable("away"), answer, answer)
    heard: list[object] = []
    make_link(channel, [1], heard)
    wait_until(lambda: len(channel.polls) >= 5, 20, "polls after the failures")
    assert heard == [instruction]
    assert [poll.seen for poll in channel.polls[:5]] == ["", "", "", "r", "r"]


def test_the_last_report_is_not_held(make_link: MakeLink) -> None:
    channel = ScriptedChannel(None, PollAnswer())
    link = make_link(channel, [7], [])
    wait_until(lambda: channel.polls, 20, "a first poll")
    link.finish(60)
    assert channel.polls[-1].wait_seconds == 0
