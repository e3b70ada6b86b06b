"""What agents said and what they are told, in memory: lost with the process, and said again within seconds."""

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import orjson

from diffusion_contract.agent_messages import Instruction, PollAnswer, Report
from diffusion_operator.kube.keys import Key
from diffusion_operator.observe.agent_reports import AgentRecord

PROGRESS_SECONDS = 5.0
"""At most one look per custom resource in this time for progress alone."""
LOST_SECONDS = 0.3
"""A broken connection without a new one for so long counts as lost."""
BETWEEN_POLLS_SECONDS = 10.0
"""An agent that was answered and does not ask again for so long counts as lost."""

_URGENT = ("broken", "leaving")
"""Fields by whose change others are kept waiting: a regroup hangs on them."""
_POSITION = ("state", "generation", "step")
"""Fields of which one changes wherever a worker gets on."""
_PROGRESS = ("step", "loss", "samples_per_second", "samples_seen", "save_seconds")
"""Fields whose change can wait for a look."""


@dataclass
class _Agent:
    key: Key
    record: AgentRecord
    polls: int = 0
    """How many polls were opened so far; the newest one is the one that counts."""
    lost_timer: asyncio.TimerHandle | None = None
    answer: PollAnswer = field(default_factory=PollAnswer)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Reports:
    """The book of all agents of this process. Not for use from other threads."""

    def __init__(
        self,
        enqueue: Callable[[Key], None],
        enqueue_urgently: Callable[[Key], None],
        enqueue_after: Callable[[Key, float], None],
    ) -> None:
        self._enqueue, self._enqueue_urgently, self._enqueue_after = enqueue, enqueue_urgently, enqueue_after
        self._agents: dict[str, _Agent] = {}
        self._of: dict[Key, set[str]] = defaultdict(set)
        self._told: dict[Key, Mapping[str, PollAnswer]] = {}
        self._progressed: dict[Key, float] = {}

    @property
    def connected(self) -> int:
        """How many agents are connected now."""
        return sum(agent.record.connected for agent in self._agents.values())

    def about(self, key: Key) -> Mapping[str, AgentRecord]:
        """The records of the pods of one custom resource, by pod UID."""
        return {uid: self._agents[uid].record for uid in sorted(self._of.get(key, ()))}

    def answer(self, key: Key, instructions: Mapping[str, Instruction]) -> None:
        """Tell the agents of one custom resource, by pod UID; whoever holds a poll and is told something new, hears it.

        Remembered also for pods that have not asked yet.
        """
        told = {uid: _answer_of(instruction) for uid, instruction in instructions.items()}
        self._told[key] = told
        for uid in self._of.get(key, ()):
            self._tell(self._agents[uid], told.get(uid, PollAnswer()))

    def forget(self, key: Key) -> None:
        """The custom resource is gone."""
        for uid in tuple(self._of.get(key, ())):
            self.forget_pod(uid)
        self._told.pop(key, None)
        self._progressed.pop(key, None)

    def forget_pod(self, uid: str) -> None:
        """The pod is gone."""
        agent = self._agents.pop(uid, None)
        if agent is None:
            return
        _stop_timer(agent)
        agent.changed.set()
        self._of[agent.key].discard(uid)
        if not self._of[agent.key]:
            del self._of[agent.key]

    async def exchange(self, key: Key, uid: str, report: Report, seen: str, wait: float, now: datetime) -> PollAnswer:
        """Take a report in, and wait up to `wait` seconds for an instruction whose revision is not `seen`.

        While there is no instruction for it (after a restart of the operator, say) it waits too. A newer poll of the
        same pod ends this one at once. Cancel this when the connection breaks.
        """
        agent = self._take(key, uid, report, now)
        agent.polls += 1
        mine, finished = agent.polls, False
        agent.changed.set()
        agent.changed = asyncio.Event()
        try:
            async with asyncio.timeout(wait):
                while agent.polls == mine and agent.answer.revision in ("", seen) and uid in self._agents:
                    agent.changed.clear()
                    await agent.changed.wait()
            finished = True
        except TimeoutError:
            finished = True
        finally:
            if agent.polls == mine:
                self._expect_next(agent, BETWEEN_POLLS_SECONDS if finished else LOST_SECONDS)
        return agent.answer

    def _take(self, key: Key, uid: str, report: Report, now: datetime) -> _Agent:
        record = AgentRecord(pod_uid=uid, report=report, received=now, advanced=now)
        agent = self._agents.get(uid)
        if agent is None:
            told = self._told.get(key, {}).get(uid, PollAnswer())
            agent = self._agents[uid] = _Agent(key, record, answer=told)
            self._of[key].add(uid)
            if any(_urgent_part(report)):
                self._enqueue_urgently(key)
            else:
                self._enqueue(key)
            return agent
        _stop_timer(agent)
        before = agent.record
        moved = _position(before.report) != _position(report)
        agent.record = replace(record, advanced=now if moved else before.advanced)
        if _urgent_part(before.report) != _urgent_part(report):
            self._enqueue_urgently(key)
        elif not before.connected or _news(before.report) != _news(report):
            self._enqueue(key)
        elif before.report != report:
            self._enqueue_throttled(key)
        return agent

    def _tell(self, agent: _Agent, answer: PollAnswer) -> None:
        if agent.answer != answer:
            agent.answer = answer
            agent.changed.set()

    def _expect_next(self, agent: _Agent, seconds: float) -> None:
        _stop_timer(agent)
        agent.lost_timer = asyncio.get_running_loop().call_later(seconds, self._lose, agent)

    def _lose(self, agent: _Agent) -> None:
        if self._agents.get(agent.record.pod_uid) is agent:
            agent.record = replace(agent.record, connected=False)
            self._enqueue_urgently(agent.key)

    def _enqueue_throttled(self, key: Key) -> None:
        now = time.monotonic()
        due = self._progressed.get(key, float("-inf")) + PROGRESS_SECONDS
        if due <= now:
            self._progressed[key] = now
            self._enqueue(key)
        else:
            self._enqueue_after(key, due - now)


def _answer_of(instruction: Instruction) -> PollAnswer:
    wire = orjson.dumps(instruction.to_wire(), option=orjson.OPT_SORT_KEYS)
    return PollAnswer(revision=hashlib.sha256(wire).hexdigest()[:16], instruction=instruction)


def _urgent_part(report: Report) -> tuple[object, ...]:
    return tuple(getattr(report, name, None) for name in _URGENT)


def _position(report: Report) -> tuple[object, ...]:
    return tuple(getattr(report, name, None) for name in _POSITION)


def _news(report: Report) -> Report:
    return report.model_copy(update={name: None for name in _PROGRESS if name in type(report).model_fields})


def _stop_timer(agent: _Agent) -> None:
    if agent.lost_timer is not None:
        agent.lost_timer.cancel()
        agent.lost_timer = None
