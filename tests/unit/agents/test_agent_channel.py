"""The agent API and the workload's end of the channel, over real TLS on this machine."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, cast

import pytest

from diffusion_contract.agent_channel import AgentChannel, ChannelInterrupted, ChannelRefused, ChannelUnavailable
from diffusion_contract.agent_messages import PollRequest, TrainerInstruction, TrainerReport
from diffusion_contract.names import AGENT_AUDIENCE, MANAGED_BY, MANAGED_BY_LABEL, TRAINING_LABEL
from diffusion_operator.agents.authentication import Authentication
from diffusion_operator.agents.reports import Reports
from diffusion_operator.agents.server import MAX_REPORT_BYTES, Membership, agent_app
from diffusion_operator.agents.tls import renewed
from diffusion_operator.kube.client import ApiClient
from diffusion_operator.kube.keys import Key
from diffusion_operator.kube.resources import POD
from diffusion_operator.kube.store import Store
from diffusion_operator.loop.clock import SystemClock
from diffusion_operator.loop.listening import listen_on
from operator_harness import until
from scripted_transport import Answer, ScriptedTransport, failure

KEY = Key("DiffusionTraining", "ns", "digits")
REVIEW = "POST /apis/authentication.k8s.io/v1/tokenreviews"


def reviewed(uid: str = "uid-1", name: str = "pod-1", audience: str = AGENT_AUDIENCE) -> dict[str, Any]:
    extra = {"authentication.kubernetes.io/pod-name": [name], "authentication.kubernetes.io/pod-uid": [uid]}
    user = {"username": "system:serviceaccount:ns:default", "groups": [], "extra": extra if uid else {}}
    return {"status": {"authenticated": True, "audiences": [audience], "user": user}}


def pod(uid: str = "uid-1", **labels: str) -> dict[str, Any]:
    labels = labels or {MANAGED_BY_LABEL: MANAGED_BY, TRAINING_LABEL: "digits"}
    return {"metadata": {"name": "pod-1", "namespace": "ns", "uid": uid, "resourceVersion": "1", "labels": labels}}


class Line:
    """A server and a channel to it."""

    def __init__(self, tmp_path: Path, review: Answer | None = None) -> None:
        self.transport, self.store = ScriptedTransport(), Store()
        self.enqueued: list[Key] = []
        self.reports = Reports(self.enqueued.append, self.enqueued.append, lambda *_: None)
        self.certificates = renewed(None, "localhost", datetime.now(UTC))
        self.ca, self.token = tmp_path / "ca.crt", tmp_path / "token"
        self.ca.write_text(self.certificates.trusted)
        self.token.write_text("good\n")
        self.transport.say(REVIEW, review or reviewed())
        self.store.put(POD, pod())
        self.port = 0

    @contextlib.asynccontextmanager
    async def up(self) -> AsyncIterator[AgentChannel]:
        authentication = Authentication(ApiClient(self.transport), [AGENT_AUDIENCE])
        app = agent_app(authentication, Membership(self.store), self.reports, SystemClock())
        runner, self.port = await listen_on(app, "127.0.0.1", self.port, self.certificates.server_context())
        channel = AgentChannel(f"https://localhost:{self.port}", self.ca, self.token)
        try:
            yield channel
        finally:
            channel.close()
            await runner.cleanup()

    def said(self) -> TrainerReport:
        report = self.reports.about(KEY)["uid-1"].report
        assert isinstance(report, TrainerReport)
        return report


def request(wait: float = 0.0, seen: str = "", **report: Any) -> PollRequest:
    return PollRequest(report=TrainerReport(attempt=0, state="Ready", **report), seen=seen, wait_seconds=wait)


async def test_a_report_comes_in_and_the_instruction_goes_out(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        held = asyncio.create_task(asyncio.to_thread(channel.poll, request(wait=20, step=7)))
        await until(lambda: line.enqueued == [KEY], 5, "the report")
        assert line.said().step == 7
        line.reports.answer(KEY, {"uid-1": TrainerInstruction(attempt=0, generation=3)})
        answer = await asyncio.wait_for(held, 60)
    assert answer.instruction == TrainerInstruction(attempt=0, generation=3)
    assert answer.revision


async def test_many_polls_share_one_connection_and_one_token_review(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        for _ in range(5):
            await asyncio.to_thread(channel.poll, request())
    assert len(line.transport.sent("POST")) == 1


async def test_a_new_token_is_read_for_the_next_request(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        await asyncio.to_thread(channel.poll, request())
        line.token.write_text("better")
        await asyncio.to_thread(channel.poll, request())
    assert [asked.body["spec"]["token"] for asked in line.transport.sent("POST")] == ["good", "better"]
    assert line.transport.sent("POST")[0].body["spec"]["audiences"] == [AGENT_AUDIENCE]


@pytest.mark.parametrize(
    ("review", "code"),
    [
        ({"status": {"authenticated": False, "error": "expired"}}, 401),
        (reviewed(audience="someone else"), 401),
        (reviewed(uid=""), 403),
    ],
)
async def test_a_token_that_is_not_a_pods_own_is_refused(tmp_path: Path, review: Answer, code: int) -> None:
    line = Line(tmp_path, review)
    async with line.up() as channel:
        with pytest.raises(ChannelRefused, match=str(code)):
            await asyncio.to_thread(channel.poll, request())
    assert not line.enqueued


async def test_a_pod_of_someone_else_is_refused(tmp_path: Path) -> None:
    line = Line(tmp_path, reviewed(uid="uid-2"))
    line.store.remove(POD, pod())
    line.store.put(POD, pod(uid="uid-2", app="other"))
    async with line.up() as channel:
        with pytest.raises(ChannelRefused, match="403"):
            await asyncio.to_thread(channel.poll, request())


async def test_a_namesake_of_a_former_pod_must_wait_until_it_is_known(tmp_path: Path) -> None:
    line = Line(tmp_path, reviewed(uid="uid-of-the-next-pod"))
    async with line.up() as channel:
        with pytest.raises(ChannelUnavailable, match="503"):
            await asyncio.to_thread(channel.poll, request())


async def test_when_the_api_server_is_away_the_channel_is_unavailable_not_refused(tmp_path: Path) -> None:
    line = Line(tmp_path, failure(500))
    async with line.up() as channel:
        with pytest.raises(ChannelUnavailable, match="503"):
            await asyncio.to_thread(channel.poll, request())


async def test_an_interrupt_ends_a_held_poll_at_once(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        held = asyncio.create_task(asyncio.to_thread(channel.poll, request(wait=30)))
        await until(lambda: line.enqueued, 5, "the report")
        threading.Thread(target=channel.interrupt).start()
        with pytest.raises(ChannelInterrupted):
            await asyncio.wait_for(held, 60)
        answer = await asyncio.to_thread(channel.poll, request(broken=1))
    assert answer.instruction is None
    assert line.said().broken == 1


def test_an_interrupt_may_meet_a_connection_that_is_being_closed(tmp_path: Path) -> None:
    """The polling thread takes the socket away between two looks at it."""

    class Closing:
        looks = 0

        @property
        def sock(self) -> socket.socket | None:
            self.looks += 1
            return ours if self.looks == 1 else None

    ours, theirs = socket.socketpair()
    channel = AgentChannel("https://localhost:1", tmp_path / "ca.crt", tmp_path / "token")
    channel._connection = cast(HTTPSConnection, Closing())
    with ours, theirs:
        channel.interrupt()
        assert theirs.recv(1) == b"", "the held poll has ended"


async def test_an_interrupt_between_two_polls_ends_the_next_one(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        await asyncio.to_thread(channel.poll, request())
        channel.interrupt()
        with pytest.raises(ChannelInterrupted):
            await asyncio.to_thread(channel.poll, request(wait=30))
        await asyncio.to_thread(channel.poll, request())


async def test_a_workload_that_dies_is_noticed_by_its_connection(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        held = asyncio.create_task(asyncio.to_thread(channel.poll, request(wait=30)))
        await until(lambda: line.enqueued, 5, "the report")
        channel.interrupt()
        await asyncio.gather(held, return_exceptions=True)
        await until(lambda: not line.reports.about(KEY)["uid-1"].connected, 3, "the loss of the connection")


async def test_an_operator_that_comes_back_is_found_again(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        await asyncio.to_thread(channel.poll, request())
    with pytest.raises(ChannelUnavailable):
        await asyncio.to_thread(channel.poll, request())
    async with line.up():
        await asyncio.to_thread(channel.poll, request())
        channel.close()


async def test_another_authority_is_not_trusted(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.ca.write_text(renewed(None, "localhost", datetime.now(UTC)).trusted)
    async with line.up() as channel:
        with pytest.raises(ChannelUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await asyncio.to_thread(channel.poll, request())


async def test_a_body_that_makes_no_sense_is_told_so(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        bad = request().model_copy(update={"wait_seconds": 1e9})
        with pytest.raises(ChannelUnavailable, match="422"):
            await asyncio.to_thread(channel.poll, bad, 5.0)


@pytest.mark.parametrize("wait", [60.1, -1.0, float("inf"), float("nan")])
async def test_nobody_is_held_for_longer_than_a_minute(tmp_path: Path, wait: float) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        bad = request().model_copy(update={"wait_seconds": wait})
        with pytest.raises(ChannelUnavailable, match="422"):
            await asyncio.to_thread(channel.poll, bad, 5.0)
    assert not line.enqueued


async def test_a_report_that_is_too_long_is_not_even_read(tmp_path: Path) -> None:
    line = Line(tmp_path)
    async with line.up() as channel:
        with pytest.raises(ChannelUnavailable, match="413"):
            await asyncio.to_thread(channel.poll, request(seen="x" * MAX_REPORT_BYTES), 5.0)
        assert not line.enqueued
        await asyncio.to_thread(channel.poll, request(seen="x" * (MAX_REPORT_BYTES - 4096)), 5.0)
        assert line.enqueued == [KEY]


@pytest.mark.parametrize("url", ["http://host:1", "host:1", "https://"])
def test_a_url_that_is_not_https_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https://HOST:PORT"):
        AgentChannel(url)


def test_a_missing_ca_or_token_file_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(ChannelUnavailable):
        AgentChannel("https://localhost:1", tmp_path / "no", tmp_path / "none").poll(request())


def test_without_the_environment_there_is_no_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFUSION_AGENT_URL", raising=False)
    assert AgentChannel.from_environment() is None
    monkeypatch.setenv("DIFFUSION_AGENT_URL", "https://somewhere:8443")
    assert AgentChannel.from_environment() is not None
