"""The end of a generation at an agreed step: who leaves, who saves, and what a leaving worker waits for."""

import contextlib
import logging
import time
from pathlib import Path

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_contract.exit_codes import ExitCode
from diffusion_trainer.checkpoint.names import committed_name, committed_steps
from diffusion_trainer.checkpoint.verification import CheckpointInvalid, read_manifest
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox, Reporter
from diffusion_trainer.placement import must_leave
from diffusion_trainer.settings import Settings
from diffusion_trainer.snapshot import Snapshots
from diffusion_trainer.training_loop import Boundary

log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.05


class Departure:
    """How one process ends, or does not, when its generation does."""

    def __init__(self, settings: Settings, inbox: Inbox, report: Reporter, snapshots: Snapshots, folder: Path) -> None:
        self.settings, self.inbox, self.report = settings, inbox, report
        self.snapshots, self.folder = snapshots, folder

    def settle(self, group: Group, boundary: Boundary, target: int) -> int | None:
        """All ranks stand at the same step: save it if somebody leaves; None for those who go on. Collective.

        The lowest rank that stays writes, so that a leaving machine need not live until the last byte is on disk; if
        everyone leaves it is rank 0. Who stays keeps the state in memory, and waits for a volume that does not answer
        no longer than those who leave have time.
        """
        self._hear_from_peers(group, boundary)
        leaves = boundary.stop or self._leaves()
        everyone = group.gather([leaves])[:, 0].tolist()
        saves = any(everyone) and (self.snapshots.live.current.checkpoint.on_preemption or boundary.stop)
        if saves:
            goes_on = 0.0 in everyone
            self.snapshots.take(
                group,
                target,
                writer=everyone.index(0.0) if goes_on else 0,
                patience=self.settings.grace_seconds if goes_on else None,
            )
        if not leaves:
            return None
        self.report.tell(state="Leaving", step=self.snapshots.state.step)
        group.close()
        if saves:
            self._wait_for_commit(self.snapshots.state.step)
        return ExitCode.RUN_AGAIN

    def _hear_from_peers(self, group: Group, boundary: Boundary) -> None:
        """Let all have the newest instruction: the operator may have died before it answered everyone. Collective."""
        if boundary.generation > group.generation:
            known = self.inbox.orders.instruction
            instruction = group.broadcast_json(known.to_wire() if known is not None else None, boundary.informed)
            self.inbox.learn(TrainerInstruction.model_validate(instruction))

    def leave_alone(self) -> int:
        """Leave outside of any generation. A state that no checkpoint has yet is saved by this process alone."""
        step = self.snapshots.state.counters.step
        self.report.tell(state="Leaving", step=step)
        newest = max(committed_steps(self.folder), default=-1)
        if step is not None and step > newest and self.snapshots.live.current.checkpoint.on_preemption:
            self.snapshots.take_alone(self.inbox.newest_generation)
            self._wait_for_commit(step)
        return ExitCode.RUN_AGAIN

    def _leaves(self) -> bool:
        orders = self.inbox.orders
        named = orders.instruction is not None and must_leave(orders.instruction, self.settings.uid)
        return named or orders.terminating

    def _wait_for_commit(self, step: int) -> None:
        """Wait until a checkpoint of this step or a later one is committed, whoever writes it; give up in the end."""
        deadline = time.monotonic() + self.settings.leave_seconds
        saver = self.snapshots.saver
        while max(committed_steps(self.folder), default=-1) < step:
            if time.monotonic() > deadline or self._grace_is_over() or (saver.failure is not None and not saver.busy):
                log.warning("leaving without a commit of step %d", step)
                return
            time.sleep(_LOOK_SECONDS)
        self._tell_newest()
        log.info("step %d is committed; leaving", step)

    def _grace_is_over(self) -> bool:
        """True once this pod will soon be killed, and has nothing in hand itself: its exit code can still be told."""
        since = self.inbox.terminating_since
        over = since is not None and time.monotonic() - since > self.settings.grace_seconds
        return over and not self.snapshots.saver.busy

    def _tell_newest(self) -> None:
        """Name the commit in this worker's last words as well: the one that wrote it may have no more time to."""
        newest = max(committed_steps(self.folder), default=-1)
        with contextlib.suppress(CheckpointInvalid):  # Another worker's to report.
            self.report.tell(committed=read_manifest(self.folder / committed_name(newest)).reference())
