"""The end of a generation at an agreed step: who leaves, who saves, and what a leaving worker waits for."""

import contextlib
import logging
import time
from pathlib import Path

from diffusion_contract.agent_messages import TrainerInstruction
from diffusion_contract.exit_codes import ExitCode
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import CheckpointInvalid, commits_of_line, read_manifest
from diffusion_trainer.group import Group
from diffusion_trainer.inbox import Inbox
from diffusion_trainer.placement import must_leave
from diffusion_trainer.reporter import Reporter
from diffusion_trainer.settings import Settings
from diffusion_trainer.snapshot import Snapshots
from diffusion_trainer.training_loop import Boundary

log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.05


class Departure:
    """How one process ends, or does not, when its generation does."""

    def __init__(
        self,
        settings: Settings,
        inbox: Inbox,
        report: Reporter,
        snapshots: Snapshots,
        folder: Path,
        local_rank: int,
    ) -> None:
        self.settings, self.inbox, self.report = settings, inbox, report
        self.snapshots, self.folder, self.local_rank = snapshots, folder, local_rank

    def settle(self, group: Group, boundary: Boundary, target: int) -> int | None:
        """All ranks stand at the same step: save it if somebody leaves; None for those who go on. Collective.

        The lowest rank that stays writes, so that a leaving machine need not live until the last byte is on disk; if
        everyone leaves it is rank 0. Who stays keeps the state in memory, and waits for a volume that does not answer
        no longer than those who leave have time.
        """
        self._hear_from_peers(group, boundary)
        leaves, wants = boundary.stop or self._leaves(), self.snapshots.live.current.checkpoint.on_preemption
        rows = group.gather([leaves, wants])  # All must do the same, and a changed file reaches the pods one by one.
        everyone = rows[:, 0].tolist()
        saves = any(everyone) and (bool(rows[:, 1].any()) or boundary.stop)
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
            self._wait_for_commit(self.snapshots.state.step, trusting_seconds=self._turn_seconds(self.local_rank + 1))
        return ExitCode.RUN_AGAIN

    def _hear_from_peers(self, group: Group, boundary: Boundary) -> None:
        """Let all have the newest instruction: the operator may have died before it answered everyone. Collective."""
        if boundary.generation > group.generation:
            known = self.inbox.orders.instruction
            instruction = group.broadcast_json(known.to_wire() if known is not None else None, boundary.informed)
            self.inbox.learn(TrainerInstruction.model_validate(instruction))

    def leave_alone(self) -> int:
        """Leave outside of any generation. A state that no checkpoint has yet is saved by this pod alone."""
        step = self.snapshots.state.counters.step
        self.report.tell(state="Leaving", step=step)
        if step is not None and self.snapshots.live.current.checkpoint.on_preemption:
            self._wait_for_commit(step, trusting_seconds=self._turn_seconds(self.local_rank))
        return ExitCode.RUN_AGAIN

    def _turn_seconds(self, turn: int) -> float:
        """How long to trust that another process saves: one after the other, so that no pod writes many copies."""
        return turn * self.settings.grace_seconds / 2

    def _leaves(self) -> bool:
        orders = self.inbox.orders
        named = orders.instruction is not None and must_leave(orders.instruction, self.settings.uid)
        return named or orders.terminating

    def _wait_for_commit(self, step: int, trusting_seconds: float) -> None:
        """Wait until a checkpoint of this step or a later one is committed, whoever writes it; give up in the end.

        One that was to write it may be killed or hang before it has: after `trusting_seconds` this process saves, too.
        """
        began = time.monotonic()
        saver, trusting = self.snapshots.saver, True
        while self._newest_commit() < step:
            waited = time.monotonic() - began
            if trusting and waited >= trusting_seconds and not saver.busy:
                trusting = False
                self.snapshots.take_alone(self.inbox.newest_generation)
            elif (
                waited > self.settings.leave_seconds
                or self._grace_is_over()
                or (saver.failure is not None and not saver.busy)
            ):
                log.warning("leaving without a commit of step %d", step)
                return
            time.sleep(_LOOK_SECONDS)
        self._tell_newest()
        log.info("step %d is committed; leaving", step)

    def _newest_commit(self) -> int:
        """The newest step that this line has committed, -1 for none: one that was passed over may stand ahead of it."""
        return next(
            (step for step, _digest in commits_of_line(self.folder, self.snapshots.state.counters.abandoned)), -1
        )

    def _grace_is_over(self) -> bool:
        """True once this pod will soon be killed, and has nothing in hand itself: its exit code can still be told."""
        since = self.inbox.terminating_since
        over = since is not None and time.monotonic() - since > self.settings.grace_seconds
        return over and not self.snapshots.saver.busy

    def _tell_newest(self) -> None:
        """Name the commit in this worker's last words as well: the one that wrote it may have no more time to."""
        newest = self._newest_commit()
        with contextlib.suppress(CheckpointInvalid):  # Another worker's to report.
            self.report.tell(committed=read_manifest(self.folder / committed_name(newest)).reference())
