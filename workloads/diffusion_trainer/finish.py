"""The target step: everyone waits for the final commit, rank 0 publishes, and all end with exit code 0."""

import logging
import time
from pathlib import Path

from diffusion_contract.agent_messages import PublishedVersion
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import CheckpointInvalid, VerifiedCheckpoint, verify_checkpoint
from diffusion_trainer.publication import publish_checkpoint
from diffusion_trainer.settings import Settings
from diffusion_trainer.snapshot import Snapshots
from diffusion_trainer.training_loop import Boundary, Training

log = logging.getLogger(__name__)
_SAVE_SECONDS = 3600.0
_RETRY_SECONDS = 2.0


class Finish:
    """The last part of a run, tried until it works, the generation ends, or the run is stopped."""

    def __init__(self, settings: Settings, training: Training, snapshots: Snapshots, folder: Path) -> None:
        self.settings, self.training, self.snapshots, self.folder = settings, training, snapshots, folder

    def run(self) -> Boundary | None:
        """None when the target is committed and published, else the boundary that ended the generation. Collective."""
        group, report = self.training.group, self.training.report
        while True:
            self.snapshots.take(group)
            done = group.broadcast_json(self._commit_and_publish() if group.rank == 0 else None, source=0)
            if done is not None:
                report.tell(state="Finished", message="", **done)
                return None
            boundary = self.training.agree()
            if boundary.ends(group.generation):
                return boundary
            time.sleep(_RETRY_SECONDS)

    def _commit_and_publish(self) -> dict[str, object] | None:
        """Rank 0: what to report when all is done, or None to try again."""
        checkpoint = self._final_commit()
        if checkpoint is None:
            return None
        committed = checkpoint.reference.to_wire()
        done: dict[str, object] = {"committed": committed, "verified": committed}
        if self.training.live.current.publish is not None:
            self.training.report.tell(state="Publishing")
            published = self._publish(checkpoint)
            if published is None:
                return None
            done["published"] = published.to_wire()
        return done

    def _final_commit(self) -> VerifiedCheckpoint | None:
        """The commit of the target step, read back: by this process, or by another one before."""
        step = self.snapshots.state.step
        self.snapshots.saver.wait_verified(step, _SAVE_SECONDS)
        try:
            return verify_checkpoint(self.folder / committed_name(step), self.training.live.current.uid)
        except CheckpointInvalid as error:
            log.warning("step %d is not committed yet: %s", step, error)
            return None

    def _publish(self, checkpoint: VerifiedCheckpoint) -> PublishedVersion | None:
        settings, training = self.settings, self.training
        try:
            published = publish_checkpoint(
                checkpoint, training.live.current, training.data.normalization, settings.models, settings.scratch
            )
        except OSError as error:
            log.warning("not published yet: %s", error)
            training.report.tell(message=f"the model version could not be published: {error}")
            return None
        log.info("published %s", published.reference)
        return published
