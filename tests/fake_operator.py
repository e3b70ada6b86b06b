"""An operator in one thread: the agent API over TLS and the simplest generation policy, for tests of real workers.

A worker's token is its own UID. A pod is dropped when the test says that it has gone, when its held poll was cut and a
peer reports the generation broken, or when it is leaving; it is taken in as soon as it is ready.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from diffusion_contract.agent_messages import Member, PollAnswer, PollRequest, TrainerInstruction, TrainerReport
from diffusion_local.certificates import Authority

LOST_SECONDS = 0.3


@dataclass
class Pod:
    """One worker as the operator knows it."""

    uid: str
    address: str
    processes: int = 1
    report: TrainerReport | None = None
    reports: list[TrainerReport] = field(default_factory=list)
    polls_open: int = 0
    cut_at: float | None = None
    gone: bool = False
    noticed: bool = False
    deaf: bool = False
    """It is told nothing any more, as by an operator that died before it had answered everyone."""
    dropped: bool = False
    """Its poll was cut and a peer missed it: out until it polls again."""

    def is_cut(self, now: float) -> bool:
        """Nothing has been heard of it for longer than it takes to poll again."""
        return self.polls_open == 0 and self.cut_at is not None and now - self.cut_at > LOST_SECONDS

    def is_live(self, now: float, broken: bool) -> bool:
        if self.gone or self.noticed or self.report is None or self.report.leaving:
            return False
        if broken and self.is_cut(now):
            self.dropped = True
        if self.dropped:
            return False
        return self.report.state not in ("Starting", "Leaving", "Finished", "Failed")


class FakeOperator:
    """Start with `start`, stop with `stop`. All fields may be read from the test's thread."""

    def __init__(self, folder: Path, attempt: int = 0, minimum: int = 1) -> None:
        self.attempt, self.minimum = attempt, minimum
        self.pods: dict[str, Pod] = {}
        self.instruction: TrainerInstruction | None = None
        self.resume_step: int | None = None
        self.stop_run = False
        self.frozen = False
        authority = Authority(folder)
        self.ca_file = authority.files.certificate
        self._certificate = authority.server("fake-operator", ["localhost"], ["127.0.0.1"])
        self._changed: asyncio.Condition
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner
        self.port = 0
        self._transports: set[asyncio.Transport] = set()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def generation(self) -> int:
        return self.instruction.generation if self.instruction else 0

    @property
    def members(self) -> tuple[Member, ...]:
        """Who trains in the generation that was told last."""
        return self.instruction.members if self.instruction else ()

    def start(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(60)

    def stop(self) -> None:
        """Go away, as an operator that was killed: connections end, nobody answers any more."""
        if self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(90)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)

    def expect(self, uid: str, address: str, processes: int = 1) -> None:
        self.pods[uid] = Pod(uid, address, processes)

    def change(self, **fields: object) -> None:
        """Set fields of the operator and make it think again."""
        self._in_loop(lambda: set_fields(self, fields))

    def change_pod(self, uid: str, **fields: object) -> None:
        """Say that a pod is `gone`, `noticed` or `deaf`."""
        self._in_loop(lambda: set_fields(self.pods[uid], fields))

    def newest(self, uid: str) -> TrainerReport | None:
        return self.pods[uid].report

    def _in_loop(self, action: Callable[[], None]) -> None:
        async def act() -> None:
            action()
            await self._think()

        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(act(), self._loop).result(60)

    def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.sleep(0))  # one more pass, in which transports that were closed let go
        self._loop.close()

    async def _serve(self) -> None:
        self._changed = asyncio.Condition()
        app = web.Application()
        app.router.add_post("/v1/poll", self._poll)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate.certificate, self._certificate.key)
        self._listening = socket.create_server(("127.0.0.1", self.port))
        await web.SockSite(self._runner, self._listening, ssl_context=context).start()
        self.port = self._listening.getsockname()[1]
        self._ticker = asyncio.ensure_future(self._tick())

    async def _close(self) -> None:
        self._ticker.cancel()
        asyncio.get_running_loop().remove_reader(self._listening)
        await asyncio.sleep(0.01)  # A closed server forgets whom it has just accepted: let these be connections.
        await self._runner.cleanup()
        for transport in self._transports:
            transport.abort()  # A polite end of TLS would wait for peers that the test has killed.
        deadline = time.monotonic() + 60
        # Connections whose TLS had not begun are nobody's but a task's yet, and their peers may be dead or stopped.
        while (self._watched() or len(asyncio.all_tasks()) > 1) and time.monotonic() < deadline:
            for transport in self._watched():
                transport.abort()
            await asyncio.sleep(0.01)

    def _watched(self) -> list[asyncio.Transport]:
        """The connections that the loop watches: what is called when one can be read or written belongs to it."""
        assert self._loop is not None
        watched = self._loop._selector.get_map().values()  # type: ignore[attr-defined] # no public face says it
        owners = [getattr(handle._callback, "__self__", None) for key in watched for handle in key.data if handle]
        return [owner for owner in owners if isinstance(owner, asyncio.Transport)]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            await self._think()

    async def _poll(self, request: web.Request) -> web.Response:
        pod = self.pods[request.headers["Authorization"].removeprefix("Bearer ")]
        poll = PollRequest.model_validate_json(await request.read())
        assert isinstance(poll.report, TrainerReport)
        pod.report = poll.report
        pod.reports.append(poll.report)
        pod.polls_open += 1
        assert request.transport is not None
        self._transports.add(request.transport)
        pod.dropped = False
        try:
            await self._think()
            async with self._changed:
                with_deadline = self._changed.wait_for(lambda: not pod.deaf and self._revision() not in ("", poll.seen))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(with_deadline, max(0.001, poll.wait_seconds))
            answer = PollAnswer(revision=self._revision(), instruction=self.instruction)
            if pod.deaf:
                answer = PollAnswer(revision=poll.seen)
            return web.Response(body=answer.model_dump_json(by_alias=True).encode(), content_type="application/json")
        finally:
            pod.polls_open -= 1
            pod.cut_at = time.monotonic()

    def _revision(self) -> str:
        return "" if self.instruction is None else str(hash(self.instruction.model_dump_json()))

    async def _think(self) -> None:
        instruction = self._plan()
        if instruction != self.instruction:
            self.instruction = instruction
            async with self._changed:
                self._changed.notify_all()

    def _plan(self) -> TrainerInstruction | None:
        current = self.instruction
        if self.frozen:
            return current
        members = {member.uid for member in self.members}
        reports = {uid: pod.report for uid, pod in self.pods.items() if pod.report}
        broken = any(report.broken == self.generation for report in reports.values() if report.broken)
        live = [pod for pod in self.pods.values() if pod.is_live(time.monotonic(), broken and pod.uid in members)]
        if self.stop_run:
            return current.model_copy(update={"stop": True}) if current else None
        if current is not None and current.leaving and not (left := set(self._leaving())).issuperset(current.leaving):
            current = current.model_copy(update={"leaving": tuple(left & set(current.leaving))})
        if current is None and len(live) < self.minimum:
            return None
        if len(live) < self.minimum or (current and not broken and {pod.uid for pod in live} == members):
            return current
        if broken and any(pod.polls_open == 0 and pod.uid in members and not pod.gone for pod in live):
            return current  # Wait for LOST_SECONDS to tell a cut connection from one that is being opened again.
        if broken and any(pod.uid in members and reports[pod.uid].broken != self.generation for pod in live):
            return current  # A member that lives will say so too; one whose end has not been seen yet never will.
        live.sort(key=lambda pod: (-step_of(reports[pod.uid]), pod.uid))
        return TrainerInstruction(
            attempt=self.attempt,
            generation=self.generation + 1,
            members=tuple(Member(pod=p.uid, uid=p.uid, address=p.address, processes=p.processes) for p in live),
            master_address=live[0].address,
            resume_step=self.resume_step,
            leaving=self._leaving(),
        )

    def _leaving(self) -> tuple[str, ...]:
        """Who still leaves: a pod that has ended is told of no more."""
        now = time.monotonic()
        live = [pod for pod in self.pods.values() if not pod.gone and not pod.is_cut(now)]
        return tuple(pod.uid for pod in live if pod.noticed or reports_leaving(pod))


def set_fields(target: object, fields: dict[str, object]) -> None:
    for name, value in fields.items():
        setattr(target, name, value)


def step_of(report: TrainerReport) -> int:
    """The step that a worker holds, and -1 for one that holds none."""
    return -1 if report.step is None else report.step


def reports_leaving(pod: Pod) -> bool:
    return pod.report is not None and pod.report.leaving
