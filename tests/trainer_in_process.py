"""A trainer inside the test's own process: the real training, with the checkpoint writer as a thread."""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_contract.run_config import RunConfig
from diffusion_trainer.checkpoint.names import run_folder
from diffusion_trainer.checkpoint.writer import run_writer
from diffusion_trainer.dataset import load_dataset
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.live_config import LiveConfig
from diffusion_trainer.packets import packet_pair
from diffusion_trainer.placement import placement
from diffusion_trainer.process_messages import Orders, ProcessUpdate
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.sampler import StatelessSampler
from diffusion_trainer.saver import Saver
from diffusion_trainer.settings import Settings
from diffusion_trainer.trainer_process import run_trainer
from diffusion_trainer.training_loop import Data, Training
from diffusion_trainer.training_state import TrainingState
from diffusion_trainer.worker_report import Known, merged
from trainer_workers import run_document

SHORT: dict[str, Any] = {"targetSteps": 8, "globalBatchSize": 5, "seed": 1}
EVERY_FOUR = {"interval": {"steps": 4}, "retain": {"last": 9}}
ALONE = TrainerInstruction(attempt=0, generation=1, members=(Member(pod="local", uid="local", address="127.0.0.1"),))


class OneOf(Group):
    """A group of which only one rank exists: gradients stay local."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world, self.generation = rank, world, 1


def alone(broken_off: threading.Event | None = None) -> Group:
    """The group of a worker that has no peers."""
    place = placement(ALONE, "local", 0)
    assert place is not None
    return Group(place, "127.0.0.1", lambda: None, 1, broken_off)


def data_of(config: RunConfig, seed: int = 0) -> Data:
    """The dataset that a run trains on, in the order of `seed`."""
    dataset = load_dataset(config)
    return Data(dataset, StatelessSampler(len(dataset), seed))


def training_without_saves(group: Group, state: TrainingState, live: LiveConfig, seed: int = 0) -> Training:
    """A training that is stepped by hand: nobody is told of it, and nothing is saved."""
    report, target = Reporter(lambda _packet: None), live.current.training.target_steps
    return Training(
        group, state, data_of(live.current, seed), live, cast(Saver, None), Inbox(None), report, target, 0.0
    )


def train_here(
    folder: Path, on_update: Callable[[ProcessUpdate, Inbox], None] | None = None, attempt: int = 0, **changes: Any
) -> tuple[int, list[ProcessUpdate]]:
    """Run one trainer to its end in `folder`; its exit code and everything that it said."""
    folder.mkdir(exist_ok=True)
    config_file = folder / "run.json"
    config_file.write_text(json.dumps(run_document(**changes)))
    settings = Settings(
        config_file=config_file, checkpoints=folder / "checkpoints", models=folder / "models", scratch=folder,
        attempt=attempt, leave_seconds=60,
    )  # fmt: skip
    ours, theirs = packet_pair()
    writer = threading.Thread(target=serve_and_close, args=(theirs,), daemon=True)
    writer.start()
    inbox = Inbox(None, Orders(instruction=ALONE))
    said: list[ProcessUpdate] = []

    def hear(packet: bytes) -> None:
        said.append(ProcessUpdate.model_validate_json(packet))
        if on_update is not None:
            on_update(said[-1], inbox)

    report = Reporter(hear)
    report.PROGRESS_SECONDS = 0.0  # Every step is told, however fast the machine is.
    code = run_trainer(settings, 0, inbox, report, ours)
    ours.shutdown(socket.SHUT_WR)
    writer.join(60)
    assert inbox.join(60), "the inbox ends"
    ours.close()
    return code, said


def in_the_end(said: Iterable[ProcessUpdate]) -> ProcessUpdate:
    """What its agent knows of a trainer after all that it said; a checkpoint may be read back after its last words."""
    known: Known = {}
    for update in said:
        known = merged(known, update)
    return ProcessUpdate.model_validate(known)


def steps_folder(folder: Path) -> Path:
    """Where `train_here` keeps the checkpoints of the run in `folder`."""
    document = run_document()
    return run_folder(folder / "checkpoints", document["name"], document["uid"])


def serve_and_close(writer: socket.socket) -> None:
    with writer:
        run_writer(writer)
