"""How a process leaves: with what its peers have heard, and before its machine is taken away."""

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from checkpoint_samples import commit_sample
from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_trainer.checkpoint.names import committed_steps
from diffusion_trainer.departure import Departure
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.peer_watch import patience_with_peers
from diffusion_trainer.process_messages import Orders
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.settings import Settings
from diffusion_trainer.snapshot import Snapshots
from diffusion_trainer.training_loop import Boundary


def instruction(generation: int, **fields: Any) -> TrainerInstruction:
    members = (Member(pod="a", uid="a", address="127.0.0.1"), Member(pod="b", uid="b", address="127.0.0.2"))
    return TrainerInstruction(attempt=0, generation=generation, members=members, **fields)


class TwoRanks(Group):
    """The group of generation 1 as rank 1 sees it; rank 0 sends what the test gives it, and else says the same."""

    def __init__(self, sent: TrainerInstruction, row: list[float] | None = None) -> None:
        self.generation, self.rank, self.world = 1, 1, 2
        self.sent, self.row = sent, row

    def broadcast_json(self, value: object, source: int) -> object:
        assert source == 0
        return self.sent.to_wire()

    def gather(self, row: Sequence[float]) -> torch.Tensor:
        return torch.tensor([self.row or row, row], dtype=torch.float64)

    def close(self) -> None:
        pass


def departure(
    tmp_path: Path, inbox: Inbox, busy: bool = False, saves: bool = False, local_rank: int = 0, **settings: Any
) -> Departure:
    """Of a process at step 5; one that `saves` commits at once whatever it saves alone."""
    saver = SimpleNamespace(failure=None, busy=busy)
    state = SimpleNamespace(step=5, counters=SimpleNamespace(step=5, abandoned=[]))
    live = SimpleNamespace(current=SimpleNamespace(checkpoint=SimpleNamespace(on_preemption=saves)))
    snapshots = SimpleNamespace(
        saver=saver,
        state=state,
        live=live,
        take=lambda *_group_and_target, **_how: None,
        take_alone=lambda _generation: commit_sample(tmp_path, 5) if saves else None,
    )
    given = Settings(config_file=tmp_path / "run.json", uid="b", **settings)
    report = Reporter(lambda _packet: None)
    return Departure(given, inbox, report, cast(Snapshots, snapshots), tmp_path, local_rank)


def boundary(generation: int) -> Boundary:
    return Boundary(generation=generation, informed=0, save=False, stop=False, leave=False, target=9, loss=0.0)


@pytest.mark.parametrize(("leaving", "code"), [(("b",), 75), ((), None)])
def test_what_a_peer_has_heard_is_enough_to_leave_or_to_go_on(
    tmp_path: Path, leaving: tuple[str, ...], code: int | None
) -> None:
    inbox = Inbox(None, Orders(instruction=instruction(1)))
    told = instruction(2, leaving=leaving)
    assert departure(tmp_path, inbox).settle(TwoRanks(told), boundary(2), target=9) == code
    assert inbox.orders.instruction == told


@pytest.mark.parametrize(("leaves", "wants", "saves"), [(1, 1, True), (1, 0, False), (0, 1, False)])
def test_whether_those_who_leave_are_saved_is_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: float, wants: float, saves: bool
) -> None:
    """An edit of onPreemption reaches the pods one by one, and a save is a matter of all ranks."""
    stays = departure(tmp_path, Inbox(None, Orders(instruction=instruction(2))))
    taken: list[object] = []
    monkeypatch.setattr(stays.snapshots, "take", lambda *_group_and_target, **_how: taken.append("all"))
    assert stays.settle(TwoRanks(instruction(2), [leaves, wants]), boundary(2), target=9) is None
    assert bool(taken) == saves


def test_an_older_instruction_never_replaces_a_newer_one() -> None:
    inbox = Inbox(None, Orders(instruction=instruction(1)))
    inbox.learn(instruction(2))
    inbox.take(Orders(instruction=instruction(1), terminating=True))
    assert inbox.newest_generation == 2
    assert inbox.orders.terminating
    inbox.take(Orders(instruction=None))
    assert inbox.newest_generation == 2
    inbox.take(Orders(instruction=instruction(2, stop=True)))
    assert inbox.orders.instruction == instruction(2, stop=True)


def test_gathering_ends_with_a_newer_generation_or_the_pod() -> None:
    inbox = Inbox(None, Orders(instruction=instruction(1)))
    assert inbox.why_stop(1) is None
    inbox.take(Orders(instruction=instruction(2)))
    assert inbox.why_stop(1) == "generation 2 was announced"
    inbox.take(Orders(instruction=instruction(2), terminating=True))
    assert inbox.why_stop(2) == "told to end"


def test_who_waits_for_another_ones_commit_leaves_before_it_is_killed(tmp_path: Path) -> None:
    inbox = Inbox(None, Orders())
    inbox.take(Orders(terminating=True))
    began = time.monotonic()
    departure(tmp_path, inbox, grace_seconds=0.2, leave_seconds=1000)._wait_for_commit(5, trusting_seconds=1000)
    assert time.monotonic() - began < 300


def test_who_writes_the_commit_itself_waits_for_it(tmp_path: Path) -> None:
    inbox = Inbox(None, Orders())
    inbox.take(Orders(terminating=True))
    began = time.monotonic()
    departure(tmp_path, inbox, busy=True, grace_seconds=0, leave_seconds=0.5)._wait_for_commit(5, 0)
    assert time.monotonic() - began >= 0.5


def test_who_leaves_saves_alone_where_the_one_that_was_to_write_is_lost(tmp_path: Path) -> None:
    inbox = Inbox(None, Orders(instruction=instruction(1)))
    leaving = departure(tmp_path, inbox, saves=True, grace_seconds=0.2)
    assert leaving.settle(TwoRanks(instruction(2, leaving=("b",))), boundary(2), target=9) == 75
    assert committed_steps(tmp_path) == [5]


@pytest.mark.parametrize(
    ("local_rank", "grace_seconds", "leave_seconds", "saved"),
    [(0, 1000, 60, [5]), (1, 0.2, 60, [5]), (1, 1000, 0.1, [])],
)
def test_of_the_processes_of_a_pod_one_after_the_other_saves_alone(
    tmp_path: Path, local_rank: int, grace_seconds: float, leave_seconds: float, saved: list[int]
) -> None:
    process = departure(
        tmp_path,
        Inbox(None, Orders()),
        False,
        True,
        local_rank,
        grace_seconds=grace_seconds,
        leave_seconds=leave_seconds,
    )
    assert process.leave_alone() == 75
    assert committed_steps(tmp_path) == saved


@pytest.mark.parametrize(("longest", "patience"), [(0.0, 6), (0.1, 6), (4.0, 8), (60.0, 9)])
def test_peers_get_half_of_the_grace_and_longer_where_steps_take_long(longest: float, patience: float) -> None:
    assert patience_with_peers(12, longest) == patience
