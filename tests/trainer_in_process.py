"""A trainer inside the test's own process: the real training, with the checkpoint writer as a thread."""

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_trainer.checkpoint.writer import run_writer
from diffusion_trainer.inbox import Inbox, Reporter
from diffusion_trainer.process_messages import Orders, ProcessUpdate
from diffusion_trainer.settings import Settings
from diffusion_trainer.trainer_process import run_trainer
from trainer_workers import run_document

ALONE = TrainerInstruction(attempt=0, generation=1, members=(Member(pod="local", uid="local", address="127.0.0.1"),))


@dataclass
class OneOf:
    """A group of which only one rank exists: gradients stay local."""

    rank: int
    world: int
    generation: int = 1


def train_here(
    folder: Path, on_update: Callable[[ProcessUpdate, Inbox], None] | None = None, attempt: int = 0, **changes: object
) -> tuple[int, list[ProcessUpdate]]:
    """Run one trainer to its end in `folder`; its exit code and everything that it said."""
    folder.mkdir(exist_ok=True)
    config_file = folder / "run.json"
    config_file.write_text(json.dumps(run_document(**changes)))
    settings = Settings(
        config_file=config_file, checkpoints=folder / "checkpoints", models=folder / "models", scratch=folder,
        attempt=attempt, leave_seconds=10,
    )  # fmt: skip
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
    writer.join(10)
    assert inbox.join(10), "the inbox ends"
    ours.close()
    return code, said


def serve_and_close(writer: socket.socket) -> None:
    with writer:
        run_writer(writer)
