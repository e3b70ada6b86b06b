"""Routes: from the configuration, from the operator, and from disk while the operator is away."""

import os
import threading
from pathlib import Path
from queue import Queue

import pytest

from deadline import wait_until
from diffusion_contract.agent_channel import ChannelInterrupted, ChannelRefused, ChannelUnavailable
from diffusion_contract.agent_messages import PollAnswer, PollRequest, Route, RouterInstruction, RouterReport
from diffusion_router.instructions import InstructionThread
from diffusion_router.route_book import FILE_NAME, RouteBook, routes_to_use

OLD = Route(revision="old", host="old.test", port=8000, model_digest="sha256:" + "0" * 64)
NEW = Route(revision="new", host="new.test", port=8000, model_digest="sha256:" + "1" * 64)


def to(*routes: Route, since: str = "") -> RouterInstruction:
    return RouterInstruction(routes=routes, since=since)


def test_at_first_the_configuration_holds(tmp_path: Path) -> None:
    assert RouteBook(tmp_path, to(OLD)).in_force == (OLD,)


def test_what_the_operator_said_outlives_a_restart_without_it(tmp_path: Path) -> None:
    RouteBook(tmp_path, to(OLD)).told(to(NEW))
    assert RouteBook(tmp_path, to(OLD)).in_force == (NEW,)


def test_that_there_is_no_route_is_remembered_as_well(tmp_path: Path) -> None:
    RouteBook(tmp_path, to(OLD)).told(to())
    assert RouteBook(tmp_path, to(OLD)).in_force == ()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "trainer"}', '{"kind": "router", "routes": [{}]}'])
def test_a_broken_file_is_of_no_use_and_does_no_harm(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    assert RouteBook(tmp_path, to(OLD)).in_force == (OLD,)


def test_routes_are_in_force_also_where_they_cannot_be_kept(tmp_path: Path) -> None:
    book = RouteBook(tmp_path / "missing", to(OLD))
    book.told(to(NEW))
    book.settle({"new": 1})
    assert book.in_force == (NEW,)


def test_a_crash_while_writing_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = RouteBook(tmp_path, to())
    book.told(to(OLD))

    def crash(_: int) -> None:
        raise OSError("power is gone")

    monkeypatch.setattr(os, "fsync", crash)
    book.told(to(NEW))
    assert RouteBook(tmp_path, to()).in_force == (OLD,)


def test_new_routes_are_watched_at_once_and_used_once_an_engine_answers(tmp_path: Path) -> None:
    book = RouteBook(tmp_path, to(OLD))
    book.told(to(NEW))
    assert book.news.is_set()
    assert list(book.watched) == [NEW, OLD]
    assert book.in_force == (OLD,)
    book.settle({"old": 2, "new": 0})
    assert book.in_force == (OLD,), "there is no moment without an engine"
    book.settle({"old": 2, "new": 1})
    assert book.in_force == (NEW,)
    assert list(book.watched) == [NEW]


def test_a_router_says_where_it_sends_only_once_it_has_looked(tmp_path: Path) -> None:
    book = RouteBook(tmp_path, to(OLD, NEW.model_copy(update={"weight": 0})))
    assert book.routed is None
    book.settle({})
    assert book.routed == ("old",)


EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"


def test_the_mounted_file_counts_only_where_it_is_newer(tmp_path: Path) -> None:
    book = RouteBook(tmp_path, to(OLD, since=EARLY))
    book.read(to(OLD, since=EARLY))
    assert not book.news.is_set()
    book.told(to(NEW, since=LATE))
    book.news.clear()
    book.read(to(OLD, since=EARLY))
    assert not book.news.is_set(), "a file that lags behind takes nothing back"
    assert RouteBook(tmp_path, to(OLD, since=EARLY)).in_force == (NEW,)
    assert RouteBook(tmp_path, to(OLD, since="2026-01-01T00:00:02Z")).in_force == (OLD,)


def test_while_the_operator_is_away_a_newer_file_is_followed(tmp_path: Path) -> None:
    book = RouteBook(tmp_path, to(OLD, since=EARLY))
    book.read(to(NEW, since=LATE))
    assert book.news.is_set()
    book.settle({"new": 1})
    assert book.routed == ("new",)


def test_the_operator_is_obeyed_whatever_its_clock_says(tmp_path: Path) -> None:
    book = RouteBook(tmp_path, to(OLD, since=LATE))
    book.told(to(NEW, since=EARLY))
    assert book.watched == (NEW, OLD)


def test_hearing_the_same_again_is_no_news(tmp_path: Path) -> None:
    book = RouteBook(tmp_path, to(OLD))
    book.told(to(OLD))
    assert not book.news.is_set()


@pytest.mark.parametrize(
    ("newest", "ready", "expected"),
    [
        ((NEW,), {}, (NEW,)),
        ((NEW,), {"old": 1}, (OLD,)),
        ((NEW,), {"old": 1, "new": 1}, (NEW,)),
        ((), {"old": 1}, ()),
        ((NEW.model_copy(update={"weight": 0}), OLD), {"new": 1}, (NEW.model_copy(update={"weight": 0}), OLD)),
        ((NEW.model_copy(update={"weight": 0}),), {"new": 1, "old": 1}, (OLD,)),
    ],
)
def test_the_newest_routes_hold_unless_only_the_old_ones_can_answer(
    newest: tuple[Route, ...], ready: dict[str, int], expected: tuple[Route, ...]
) -> None:
    assert routes_to_use((OLD,), newest, ready) == expected


class StandInChannel:
    """Answers what the test puts into it, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: Queue[PollAnswer | Exception] = Queue()
        self.asked: list[PollRequest] = []

    def poll(self, request: PollRequest, timeout: float | None = None) -> PollAnswer:
        self.asked.append(request)
        answer = self.answers.get(timeout=20)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def interrupt(self) -> None:
        self.answers.put(ChannelInterrupted("interrupted"))


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("diffusion_router.instructions.FIRST_PAUSE_SECONDS", 0.01)
        self.channel = StandInChannel()
        self.told: list[RouterInstruction] = []
        self.unanswered = 0
        self.ready = {"old": 1}
        self.thread = InstructionThread(
            self.channel, lambda: RouterReport(ready_engines=self.ready), self.told.append, self._count
        )
        self.thread.start()

    def _count(self) -> None:
        self.unanswered += 1


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_instructions_are_followed_and_not_asked_for_twice(scene: Scene) -> None:
    scene.channel.answers.put(PollAnswer(revision="7", instruction=RouterInstruction(routes=(NEW,))))
    wait_until(lambda: len(scene.channel.asked) == 2, 5, "the next poll")
    scene.thread.stop()
    assert scene.told == [to(NEW)]
    assert [request.seen for request in scene.channel.asked[:2]] == ["", "7"]
    assert scene.channel.asked[0].report == RouterReport(ready_engines={"old": 1})


def test_an_operator_that_is_away_changes_nothing_and_is_asked_again(scene: Scene) -> None:
    scene.channel.answers.put(PollAnswer(revision="7", instruction=RouterInstruction(routes=(NEW,))))
    scene.channel.answers.put(ChannelUnavailable("connection refused"))
    scene.channel.answers.put(ChannelRefused("403"))
    scene.channel.answers.put(PollAnswer(revision="8", instruction=RouterInstruction(routes=(OLD,))))
    wait_until(lambda: len(scene.told) == 2, 5, "the operator is back")
    scene.thread.stop()
    assert scene.told == [to(NEW), to(OLD)]
    assert scene.unanswered == 2, "the mounted file is looked at instead"
    assert [request.seen for request in scene.channel.asked[:4]] == ["", "7", "7", "7"]


def test_a_fault_of_ours_ends_no_thread(scene: Scene) -> None:
    scene.channel.answers.put(TypeError("not foreseen"))
    scene.channel.answers.put(PollAnswer(revision="8", instruction=to(OLD)))
    wait_until(lambda: scene.told, 5, "the next poll")
    assert scene.thread.alive
    scene.thread.stop()
    assert not scene.thread.alive


def test_a_change_is_reported_at_once(scene: Scene) -> None:
    wait_until(lambda: len(scene.channel.asked) == 1, 5, "the first poll is held")
    scene.ready = {"old": 2}
    scene.thread.report_now()
    wait_until(lambda: len(scene.channel.asked) == 2, 5, "the next poll")
    scene.thread.stop()
    assert scene.channel.asked[1].report == RouterReport(ready_engines={"old": 2})
    assert not scene.told


def test_no_instruction_yet_changes_nothing(scene: Scene) -> None:
    scene.channel.answers.put(PollAnswer())
    wait_until(lambda: len(scene.channel.asked) == 2, 5, "the next poll")
    scene.thread.stop()
    assert not scene.told


def test_stopping_ends_the_thread(scene: Scene) -> None:
    scene.thread.stop()
    assert "instructions" not in [thread.name for thread in threading.enumerate()]
