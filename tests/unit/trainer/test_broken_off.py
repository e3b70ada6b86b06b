"""A group that ends in the middle of a collective: nobody goes on with half of what it was to give."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from diffusion_trainer import peer_watch
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.live_config import LiveConfig
from diffusion_trainer.peer_watch import PeerWatch
from diffusion_trainer.rendezvous import PeersLost
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.resumption import start_state
from diffusion_trainer.settings import Settings
from diffusion_trainer.state_agreement import share_state
from diffusion_trainer.training_state import Counters, TrainingState, build_state
from trainer_in_process import ALONE, alone, data_of, training_without_saves
from trainer_workers import run_document

CPU = torch.device("cpu")


@pytest.fixture
def live(tmp_path: Path) -> LiveConfig:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run_document(training={"targetSteps": 4, "globalBatchSize": 4})))
    return LiveConfig(path)


def copied(state: TrainingState) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in state.tensors()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


def test_gradients_of_a_group_that_was_broken_off_change_nothing(live: LiveConfig) -> None:
    state, broken_off = build_state(live.current, CPU), threading.Event()
    state.begin(live.current)
    with alone(broken_off) as group:
        training = training_without_saves(group, state, live)
        group.world = 2
        training._step()
        before = copied(state)
        broken_off.set()  # NCCL's collectives may end without an error then.
        with pytest.raises(PeersLost, match="generation 1 were broken off"):
            training._step()
        training.close()
    assert state.step == 1
    assert same(state.tensors(), before)


def test_who_is_alone_has_no_connections_that_could_be_broken_off() -> None:
    broken_off = threading.Event()
    broken_off.set()
    with alone(broken_off) as group:
        group.confirm(CPU)


def test_a_generation_is_marked_before_its_connections_are_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = PeerWatch(Settings(config_file=Path("run.json")), Inbox(None))
    broken_off = watch.gathers(ALONE.model_copy(update={"generation": 3}))
    found: list[threading.Event] = []
    monkeypatch.setattr(peer_watch, "break_connections", found.append)
    watch._break_if_still_in(3, dropped=True)
    assert found == [broken_off]


class LostInTheMiddle(Group):
    """The group of a receiver whose source goes away after the first tensor."""

    def __init__(self) -> None:
        self.rank = 1

    def broadcast_json(self, value: object, source: int) -> dict[str, object]:
        return {"step": 7}

    def broadcast_tensors(self, tensors: Iterable[torch.Tensor], source: int) -> None:
        with torch.no_grad():
            next(iter(tensors)).fill_(7.0)
        raise PeersLost("the source has gone")


@pytest.mark.parametrize("step", [None, 6])
def test_half_of_a_received_state_is_none(live: LiveConfig, tmp_path: Path, step: int | None) -> None:
    state = build_state(live.current, CPU)
    initial = copied(state)
    state.apply_counters(Counters(step=step))
    with pytest.raises(PeersLost):
        share_state(LostInTheMiddle(), state, source=0)
    assert state.counters.step is None
    report = Reporter(lambda _packet: None)
    with alone() as group:
        folder = tmp_path / "run"
        start_state(group, state, folder, live.current, data_of(live.current), report, resume_step=None, attempt=0)
    assert state.step == 0
    assert same(state.tensors(), initial)
