"""Members of a generation go together or not at all, and nobody waits long for one that has gone."""

import gc
import threading
import time
import weakref
from contextlib import closing
from pathlib import Path

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import (  # torch.distributed exports them too, but not to type checkers
    HashStore,
    TCPStore,
)
from torch.distributed.distributed_c10d import _abort_process_group

from deadline import wait_until
from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_trainer import group, peer_watch, rendezvous
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.own_process import open_descriptors
from diffusion_trainer.peer_watch import PeerWatch
from diffusion_trainer.placement import Placement
from diffusion_trainer.process_messages import Orders
from diffusion_trainer.rendezvous import PeersLost, Superseded, break_connections, decide, meet
from diffusion_trainer.settings import Settings
from operator_process import free_port

SECONDS = 60.0
"""What nothing here may take, on a busy machine; without a verdict it would be ten minutes."""


def place(rank: int, world: int = 2, port: int = 0) -> Placement:
    return Placement(3, rank, world, rank, world, "127.0.0.1", port)


class Rank:
    """One rank that decides in a thread of its own; `reason` makes it want to stop."""

    def __init__(self, store: HashStore, rank: int, world: int) -> None:
        self.store, self.place = store, place(rank, world)
        self.reason: str | None = None
        self.outcome = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "Rank":
        self._thread.start()
        return self

    def _check(self) -> None:
        if self.reason:
            raise Superseded(self.reason)

    def _run(self) -> None:
        try:
            decide(self.store, self.place, self._check)
            self.outcome = "go"
        except (Superseded, PeersLost) as error:
            self.outcome = str(error)

    def wait(self) -> str:
        return wait_until(lambda: self.outcome, SECONDS, f"rank {self.place.rank} knows")


@pytest.fixture
def three() -> list[Rank]:
    store = HashStore()
    return [Rank(store, rank, 3) for rank in range(3)]


def test_all_go_when_all_are_here(three: list[Rank]) -> None:
    for member in three:
        member.start()
    assert [member.wait() for member in three] == ["go"] * 3


def test_who_takes_the_place_of_one_that_has_died_does_not_join_what_that_one_was_in(three: list[Rank]) -> None:
    for member in three:
        member.start()
    assert [member.wait() for member in three] == ["go"] * 3
    assert Rank(three[0].store, 1, 3).start().wait() == "generation 3 was decided before this process came"


def test_one_that_leaves_before_the_last_has_come_withdraws_for_all(three: list[Rank]) -> None:
    for member in three[:2]:
        member.start()
    three[1].reason = "generation 4 was announced"
    assert three[1].wait() == "generation 4 was announced"
    three[2].start()
    lost = "a member of generation 3 has withdrawn from it"
    assert [three[0].wait(), three[2].wait()] == [lost, lost], "its key alone does not make it one that comes"


def test_one_that_would_leave_after_another_has_said_go_goes_too(
    three: list[Rank], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_too_late() -> None:
        assert three[1].store.compare_set("verdict", "", "go") == b"go"
        raise Superseded("told to end")

    monkeypatch.setattr(three[1], "_check", leave_too_late)
    assert three[1].start().wait() == "go"


def test_whatever_the_order_all_go_or_nobody_does() -> None:
    for attempt in range(30):
        store = HashStore()
        members = [Rank(store, rank, 3) for rank in range(3)]
        for member in members:
            member.start()
        members[attempt % 3].reason = "generation 4 was announced"
        outcomes = [member.wait() for member in members]
        assert outcomes.count("go") in (0, 3), outcomes


class Ghost:
    """Rank 1 as far as its last breath: it says that it is here, agrees to go, and is never heard of again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.agreed = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        wait_until(lambda: rendezvous._answers("127.0.0.1", self.port), SECONDS, "the store opens")
        store = TCPStore("127.0.0.1", self.port, None, False, wait_for_workers=False)
        decide(store, place(1, port=self.port), lambda: None)
        self.agreed.set()


def test_a_member_that_dies_while_the_group_is_made_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_CONNECT_SECONDS", 1)
    port = free_port()
    ghost = Ghost(port)
    began = time.monotonic()
    with pytest.raises(PeersLost, match="generation 3 could not be formed"):
        meet(place(0, port=port), "127.0.0.1", lambda: None, SECONDS)
    assert ghost.agreed.is_set()
    assert time.monotonic() - began < 300, "a busy machine included; it would have been ten minutes"


def test_making_the_group_can_be_broken_off_from_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_CONNECT_SECONDS", 600)
    port = free_port()
    ghost, over = Ghost(port), threading.Event()

    def break_when_agreed() -> None:
        ghost.agreed.wait(SECONDS)
        while not over.wait(0.1):
            break_connections(threading.Event())

    breaker = threading.Thread(target=break_when_agreed, daemon=True)
    breaker.start()
    began = time.monotonic()
    try:
        with pytest.raises(PeersLost):
            meet(place(0, port=port), "127.0.0.1", lambda: None, SECONDS)
    finally:
        over.set()
        breaker.join(SECONDS)
    assert time.monotonic() - began < 300


def test_a_newer_generation_ends_the_wait_for_a_member_that_does_not_come() -> None:
    announced = threading.Event()
    threading.Timer(0.2, announced.set).start()
    with pytest.raises(Superseded, match="generation 4 was announced"):
        meet(
            place(0, port=free_port()),
            "127.0.0.1",
            lambda: "generation 4 was announced" if announced.is_set() else None,
            SECONDS,
        )


def test_breaking_connections_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    with closing((tmp_path / "plain").open("w")):
        before = len(open_descriptors())
        for _ in range(5):
            break_connections(threading.Event())
        assert len(open_descriptors()) == before


def of_members(uids: str, generation: int) -> TrainerInstruction:
    members = tuple(Member(pod=uid, uid=uid, address="127.0.0.1") for uid in uids)
    return TrainerInstruction(attempt=0, generation=generation, members=members)


@pytest.mark.parametrize(
    ("gathering", "announced", "member_stays", "broken"),
    [(True, 4, True, True), (True, 3, True, False), (False, 4, True, False), (False, 4, False, True)],
)
def test_a_newer_generation_breaks_off_one_that_still_forms_or_has_lost_a_member(
    monkeypatch: pytest.MonkeyPatch, gathering: bool, announced: int, member_stays: bool, broken: bool
) -> None:
    calls: list[threading.Event] = []
    monkeypatch.setattr(peer_watch, "break_connections", calls.append)
    monkeypatch.setattr(peer_watch, "_HUNG_PEER_SECONDS", 0.0)
    inbox = Inbox(None)
    watch = PeerWatch(Settings(config_file=Path("run.json")), inbox)
    watch.gathers(of_members("ab", 3))
    if not gathering:
        watch.has_formed()
    inbox.take(Orders(instruction=of_members("ab" if member_stays else "a", announced)))
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join(SECONDS)
    assert bool(calls) == broken


def test_a_generation_that_has_formed_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[threading.Event] = []
    monkeypatch.setattr(peer_watch, "break_connections", calls.append)
    watch = PeerWatch(Settings(config_file=Path("run.json")), Inbox(None))
    watch.gathers(of_members("ab", 3))
    watch.has_formed()
    watch._break_if_still_in(3, dropped=False)
    watch._break_if_still_in(2, dropped=True)
    assert calls == []


def test_nccl_is_aborted_and_gloo_destroyed() -> None:
    assert rendezvous.way_to_end(has_accelerator=True) is _abort_process_group
    assert rendezvous.way_to_end(has_accelerator=False) is dist.destroy_process_group


def test_a_process_group_outlives_all_that_ddp_holds_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """DDP's reducer would join the group's threads with the interpreter's lock, for which one of them may wait."""

    def meet_alone(*_given: object) -> HashStore:
        store = HashStore()
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        return store

    monkeypatch.setattr(group, "meet", meet_alone)
    made = Group(place(0), "127.0.0.1", lambda: None, SECONDS)
    process_group = weakref.ref(dist.group.WORLD)
    made.close()
    assert not dist.is_initialized()
    assert process_group() is not None
    del made
    gc.collect()
    assert process_group() is None
