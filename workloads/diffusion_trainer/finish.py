"""The target step: everyone waits for the final commit, rank 0 publishes, and all end with exit code 0.

Rank 0 commits and publishes in a thread, however long that takes; meanwhile all ranks go on agreeing, so that none is
deaf to a notice, and no collective waits for a volume.
"""

import concurrent.futures
import functools
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from diffusion_contract.agent_messages import PublishedVersion
from diffusion_contract.run_config import RunConfig
from diffusion_registry.image_layout import PublishRefused
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import CheckpointInvalid, VerifiedCheckpoint, verify_checkpoint
from diffusion_trainer.publication import publish_checkpoint
from diffusion_trainer.refusal import ConfigurationRefused
from diffusion_trainer.settings import Settings
from diffusion_trainer.snapshot import Snapshots
from diffusion_trainer.training_loop import Boundary, Training

log = logging.getLogger(__name__)
_SAVE_SECONDS = 3600.0
_RETRY_SECONDS = 2.0
_LOOK_SECONDS = 0.1

Outcome = dict[str, dict[str, object] | str | None]
"""What came of an attempt, as rank 0 tells it to all: `done` (None: try again), or why publishing is `refused`."""


class Finish:
    """The last part of a run, tried until it works, the generation ends, or the run is stopped."""

    def __init__(self, settings: Settings, training: Training, snapshots: Snapshots, folder: Path) -> None:
        self.settings, self.training, self.snapshots, self.folder = settings, training, snapshots, folder
        self._telling = threading.Lock()
        self._over = False

    def run(self) -> Boundary | None:
        """None when the target is committed and published, else the boundary with which that ended. Collective.

        It ends the generation, or has a higher target: then training goes on.
        """
        # Progress is told now and then, so the last step may not have been; what was said on the way is over.
        self.training.report.tell(step=self.snapshots.state.step, message="")
        try:
            return self._try_until_done()
        finally:
            with self._telling:
                self._over = True

    def _try_until_done(self) -> Boundary | None:
        group, report = self.training.group, self.training.report
        while True:
            self.snapshots.take(group, self.training.target)
            # The step as it is now: where the target is raised, training goes on beside what is in the background.
            finish = functools.partial(self._commit_and_publish, self.snapshots.state.step)
            outcome = self._wait_together(InBackground(finish) if group.rank == 0 else None)
            if isinstance(outcome, Boundary):
                return outcome
            if "refused" in outcome:
                raise ConfigurationRefused("spec.publish", str(outcome["refused"]))
            if isinstance(done := outcome["done"], dict):
                report.tell(state="Finished", message="", step=self.snapshots.state.step, **done)
                return None
            time.sleep(_RETRY_SECONDS)

    def _wait_together(self, work: "InBackground | None") -> Outcome | Boundary:
        """Wait for what rank 0 has in hand, for the end of the generation, or for a higher target. Collective."""
        group = self.training.group
        while True:
            boundary = self.training.agree()
            if boundary.ends(group.generation) or boundary.target > self.training.target:
                return boundary
            outcome: Outcome | None = group.broadcast_json(work.outcome(_LOOK_SECONDS) if work else None, source=0)
            if outcome is not None:
                return outcome

    def _tell(self, **changed: object) -> None:
        """For the thread in the background: nothing that it says may come after the generation's end."""
        with self._telling:
            if not self._over:
                self.training.report.tell(**changed)

    def _commit_and_publish(self, step: int) -> Outcome:
        """Rank 0: what to report when all is done."""
        checkpoint = self._final_commit(step)
        if checkpoint is None:
            return {"done": None}
        committed = checkpoint.reference.to_wire()
        done: dict[str, object] = {"committed": committed, "verified": committed}
        config = self.training.live.current
        if config.publish is not None:
            self._tell(state="Publishing")
            try:
                published = self._publish(checkpoint, config, config.publish.claim)
            except PublishRefused as error:
                return {"refused": f"{error} (on the volume {config.publish.claim})"}
            if published is None:
                return {"done": None}
            done["published"] = published.to_wire()
        return {"done": done}

    def _final_commit(self, step: int) -> VerifiedCheckpoint | None:
        """The commit of the target step, read back: by this process, or by another one before."""
        self.snapshots.saver.wait_verified(step, _SAVE_SECONDS)
        try:
            return verify_checkpoint(self.folder / committed_name(step), self.training.live.current.uid)
        except CheckpointInvalid as error:
            log.warning("step %d is not committed yet: %s", step, error)
            self.snapshots.saver.forget(step)
            return None

    def _publish(self, checkpoint: VerifiedCheckpoint, config: RunConfig, claim: str) -> PublishedVersion | None:
        """None where the volume cannot be written to now, which was told."""
        settings, normalization = self.settings, self.training.data.dataset.normalization
        try:
            published = publish_checkpoint(checkpoint, config, normalization, settings.models, settings.scratch)
        except OSError as error:
            log.warning("not published yet: %s", error)
            why = error.strerror or type(error).__name__  # The whole might name other files each time.
            remedy = f"see that the claim {claim} can be written to and has room"
            self._tell(message=f"its model version cannot be written ({why}): {remedy}")
            return None
        log.info("published %s", published.reference)
        return published


class InBackground:
    """An action in a thread of its own, which ends with the process if nobody waits for it any more."""

    def __init__(self, action: Callable[[], Outcome]) -> None:
        self._future: concurrent.futures.Future[Outcome] = concurrent.futures.Future()
        threading.Thread(target=self._run, args=(action,), name="finish", daemon=True).start()

    def _run(self, action: Callable[[], Outcome]) -> None:
        try:
            self._future.set_result(action())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the outcome is asked for
            self._future.set_exception(error)

    def outcome(self, seconds: float) -> Outcome | None:
        """What came of it, or None if it is still at work after so many seconds. Raises what the action raised."""
        done, _at_work = concurrent.futures.wait([self._future], seconds)
        return self._future.result() if done else None
