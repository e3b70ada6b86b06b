"""A run in one process, without agent and operator: for laptops, tests, and a first look at a configuration.

Ctrl-C and SIGTERM are to it what they are to a worker: it saves, and ends with exit code 75.
"""

import os
import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import click

from diffusion_contract.agent_messages import Member, TrainerInstruction
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.log_lines import start_logging
from diffusion_trainer.own_process import leave_signals_to_the_agent
from diffusion_trainer.packets import packet_pair
from diffusion_trainer.process_messages import Orders, ProcessUpdate
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.settings import Settings
from diffusion_trainer.thread_limits import cpu_limit, thread_environment
from diffusion_trainer.zygote import fork


def run_here(config_file: Path, output: Path) -> int:
    """Train, save and publish below `output`; returns the exit code of the run."""
    start_logging("local")
    os.environ.update(thread_environment(os.environ, 1, cpu_limit()))
    for folder in ("checkpoints", "models", "scratch"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    settings = Settings(
        config_file=config_file.resolve(),
        checkpoints=output / "checkpoints",
        models=output / "models",
        scratch=output / "scratch",
        termination_file=output / "termination-message",
    )
    writer = _start_writer()
    from diffusion_trainer.trainer_process import run_trainer  # after the fork: torch brings threads

    member = Member(pod=settings.pod, uid=settings.uid, address=settings.address)
    instruction = TrainerInstruction(attempt=0, generation=1, members=(member,), master_address=settings.address)
    inbox = Inbox(None, Orders(instruction=instruction))
    _save_when_told_to_end(inbox)
    return run_trainer(settings, 0, inbox, Reporter(_print_update), writer)


def _save_when_told_to_end(inbox: Inbox) -> None:
    """Have the first SIGINT or SIGTERM end the run at its next step, and a second one at once."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        print("saving; the same command again goes on from there (once more: end now)", file=sys.stderr, flush=True)
        inbox.take(inbox.orders.model_copy(update={"terminating": True}))

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _start_writer() -> socket.socket:
    from diffusion_trainer.checkpoint.writer import run_writer

    def write() -> int:
        leave_signals_to_the_agent()  # Ctrl-C comes to the whole process group, and what is being saved is to be saved.
        return run_writer(theirs)

    ours, theirs = packet_pair()
    fork(write, [theirs])
    theirs.close()
    return ours


def _print_update(packet: bytes) -> None:
    update = ProcessUpdate.model_validate_json(packet)
    if update.loss is not None:
        rate = update.samples_per_second or 0.0
        click.echo(f"step {update.step}  loss {update.loss:.4f}  {rate:.0f} samples/s")
    if update.refused_path is not None or update.message:
        where = f"{update.refused_path}: " if update.refused_path else ""
        print(f"{where}{update.message}", file=sys.stderr)
    if update.published is not None:
        click.echo(f"published {update.published.reference}")
