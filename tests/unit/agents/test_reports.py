import asyncio
from datetime import UTC, datetime
from typing import Any

from diffusion_contract.agent_messages import (
    CheckpointReference,
    PollAnswer,
    RouterReport,
    TrainerInstruction,
    TrainerReport,
)
from diffusion_operator.agents.reports import Reports
from diffusion_operator.kube.keys import Key
from diffusion_operator.observe.agent_reports import AgentRecord
from operator_harness import until

KEY = Key("DiffusionTraining", "ns", "digits")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


class Book:
    """Reports with a record of who was enqueued."""

    def __init__(self) -> None:
        self.enqueued: list[Key] = []
        self.urgent: list[Key] = []
        self.later: list[tuple[Any, ...]] = []
        self.reports = Reports(self.enqueued.append, self._urgently, lambda *order: self.later.append(order))

    def _urgently(self, key: Key) -> None:
        self.enqueued.append(key)
        self.urgent.append(key)

    async def poll(self, uid: str = "pod-1", seen: str = "", wait: float = 0.0, **report: Any) -> PollAnswer:
        return await self.reports.exchange(
            KEY, uid, TrainerReport(attempt=0, state="Training", **report), seen, wait, NOW
        )

    def hold(self, uid: str = "pod-1", seen: str = "", **report: Any) -> asyncio.Task[PollAnswer]:
        return asyncio.create_task(self.poll(uid, seen, 300, **report))

    def tell(self, generation: int, *uids: str) -> None:
        instruction = TrainerInstruction(attempt=0, generation=generation)
        self.reports.answer(KEY, dict.fromkeys(uids or ("pod-1",), instruction))

    def record(self, uid: str = "pod-1") -> AgentRecord:
        return self.reports.about(KEY)[uid]

    def said(self, uid: str = "pod-1") -> TrainerReport:
        report = self.record(uid).report
        assert isinstance(report, TrainerReport)
        return report


async def test_a_report_is_stamped_and_enqueues_its_custom_resource() -> None:
    book = Book()
    await book.poll(step=3)
    assert book.said().step == 3
    assert book.record().received == NOW
    assert book.enqueued == [KEY]


async def test_it_is_kept_since_when_a_worker_is_where_it_is() -> None:
    book = Book()
    await book.poll(step=3)
    await book.reports.exchange(KEY, "pod-1", TrainerReport(attempt=0, state="Training", step=3, loss=1), "", 0, LATER)
    assert (book.record().received, book.record().advanced) == (LATER, NOW)
    await book.reports.exchange(KEY, "pod-1", TrainerReport(attempt=0, state="Training", step=4), "", 0, LATER)
    assert book.record().advanced == LATER


async def test_a_pod_that_never_reported_is_not_in_the_book() -> None:
    assert Book().reports.about(KEY) == {}


async def test_without_an_instruction_a_poll_waits_and_says_nothing() -> None:
    book = Book()
    answer = await book.poll(wait=0.01)
    assert (answer.revision, answer.instruction) == ("", None)


async def test_after_a_restart_an_agent_that_knows_its_instruction_is_not_answered_with_nothing_at_once() -> None:
    book = Book()
    held = book.hold(seen="something that an earlier process said")
    await asyncio.sleep(0)
    assert not held.done()
    book.tell(4)
    assert (await held).instruction == TrainerInstruction(attempt=0, generation=4)


async def test_a_held_poll_is_answered_the_moment_that_the_instruction_changes() -> None:
    book = Book()
    held = book.hold()
    await until(lambda: book.enqueued, 1, "the poll")
    book.tell(1)
    first = await asyncio.wait_for(held, 60)
    again = book.hold(seen=first.revision)
    book.tell(1)
    await asyncio.sleep(0.01)
    assert not again.done(), "the same instruction is not news"
    book.tell(2)
    assert (await asyncio.wait_for(again, 60)).instruction == TrainerInstruction(attempt=0, generation=2)


async def test_an_instruction_waits_for_a_pod_that_has_not_asked_yet() -> None:
    book = Book()
    book.tell(1)
    assert (await book.poll(wait=30)).instruction == TrainerInstruction(attempt=0, generation=1)


async def test_only_the_pods_that_are_named_are_told() -> None:
    book = Book()
    other = book.hold("pod-2")
    await asyncio.sleep(0)
    book.tell(1, "pod-1")
    assert (await book.poll(wait=30)).instruction == TrainerInstruction(attempt=0, generation=1)
    assert not other.done()
    other.cancel()


async def test_a_newer_poll_of_the_same_pod_ends_the_older_one_at_once() -> None:
    book = Book()
    older = book.hold()
    await asyncio.sleep(0)
    newer = book.hold(broken=1)
    assert (await asyncio.wait_for(older, 60)).instruction is None
    assert not newer.done()
    assert book.said().broken == 1
    newer.cancel()


async def test_news_enqueue_at_once() -> None:
    book = Book()
    await book.poll(step=1)
    committed = CheckpointReference(step=1, digest="sha256:" + "0" * 64, time="2026-01-01T00:00:00Z")
    for news in ({"broken": 1}, {"leaving": True}, {"committed": committed}, {"message": "no space left"}):
        before = len(book.enqueued)
        await book.poll(step=1, **news)
        assert len(book.enqueued) == before + 1, news
    assert not book.later


async def test_progress_alone_is_looked_at_now_and_then() -> None:
    book = Book()
    await book.poll(step=1)
    for step in range(2, 50):
        await book.poll(step=step, loss=1 / step, samples_per_second=9.0, samples_seen=step)
    assert len(book.enqueued) == 2, "the first report, and the first progress"
    assert all(0 < seconds <= 5 for _, seconds in book.later)
    assert len(book.later) == 47


async def test_a_report_that_says_nothing_new_enqueues_nothing() -> None:
    book = Book()
    await book.poll(step=1)
    await book.poll(step=1)
    assert book.enqueued == [KEY]


async def test_a_router_that_finds_engines_is_progress() -> None:
    book = Book()
    for ready in (0, 1):
        await book.reports.exchange(KEY, "r", RouterReport(ready_engines={"a": ready}), "", 0, NOW)
    assert book.record("r").report == RouterReport(ready_engines={"a": 1})


async def test_a_broken_connection_counts_as_lost_only_after_a_moment() -> None:
    book = Book()
    held = book.hold()
    await asyncio.sleep(0)
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert book.record().connected
    await until(lambda: not book.record().connected, 2, "the loss")
    assert book.enqueued == [KEY, KEY]


async def test_an_agent_that_comes_back_in_time_was_never_lost() -> None:
    book = Book()
    held = book.hold()
    await asyncio.sleep(0)
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    again = book.hold()
    await asyncio.sleep(0.4)
    assert book.record().connected
    assert book.enqueued == [KEY]
    again.cancel()


async def test_an_agent_that_comes_back_late_enqueues_again() -> None:
    book = Book()
    held = book.hold()
    await asyncio.sleep(0)
    held.cancel()
    await until(lambda: not book.record().connected, 2, "the loss")
    await book.poll()
    assert book.record().connected
    assert len(book.enqueued) == 3


async def test_a_pod_that_is_gone_is_forgotten_and_its_poll_ends() -> None:
    book = Book()
    held = book.hold()
    await asyncio.sleep(0)
    book.reports.forget_pod("pod-1")
    await asyncio.wait_for(held, 60)
    assert book.reports.about(KEY) == {}
    assert book.reports.connected == 0


async def test_a_custom_resource_that_is_gone_is_forgotten_with_all_its_pods() -> None:
    book = Book()
    held = [book.hold(uid) for uid in ("pod-1", "pod-2")]
    await asyncio.sleep(0)
    assert book.reports.connected == 2
    book.reports.forget(KEY)
    await asyncio.wait_for(asyncio.gather(*held), 60)
    assert book.reports.about(KEY) == {}


async def test_a_dead_peer_and_a_lost_connection_do_not_wait_for_their_turn_and_progress_does() -> None:
    book = Book()
    await book.poll("pod-1", step=1)
    assert book.urgent == [], "whoever is new waits with the others"
    await book.poll("pod-2", step=1, broken=3)
    assert book.urgent == [KEY]
    await book.poll("pod-1", step=2, message="no space left")
    assert book.urgent == [KEY], "what nobody waits for is no more urgent than a crowd's"
    await book.poll("pod-1", step=2, leaving=True)
    assert book.urgent == [KEY] * 2
    held = book.hold("pod-1", step=2, leaving=True)
    await asyncio.sleep(0)
    held.cancel()
    await until(lambda: len(book.urgent) == 3, 5, "the loss")
