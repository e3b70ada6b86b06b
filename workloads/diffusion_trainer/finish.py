"""The target step: everyone waits for the final commit, rank 0 publishes, and all end with exit code 0."""

import logging
import time
from pathlib import Path

from diffusion_contract.agent_messages import CheckpointReference, PublishedVersion
from diffusion_trainer.checkpoint.names import committed_name
from diffusion_trainer.checkpoint.verification import CheckpointInvalid, verify_checkpoint
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
                report.tell(state="Finished", **done)
                return None
            boundary = self.training.agree()
            if boundary.ends(group.generation):
                return boundary
            time.sleep(_RETRY_SECONDS)

    def _commit_and_publish(self) -> dict[str, object] | None:
        """Rank 0: what to report when all is done, or None to try again."""
        committed = self._final_commit()
        if committed is None:
            return None
        done: dict[str, object] = {"committed": committed.to_wire(), "verified": committed.to_wire()}
        config = self.training.live.current
        if config.publish is not None:
            self.training.report.tell(state="Publishing")
            published = self._publish()
            if published is None:
                return None
            done["published"] = published.to_wire()
        return done

    def _final_commit(self) -> CheckpointReference | None:
        """The commit of the target step, read back: by this process, or by another one before."""
        step = self.snapshots.state.step
        self.snapshots.saver.wait_verified(step, _SAVE_SECONDS)
        try:
            return verify_checkpoint(self.folder / committed_name(step), self.training.live.current.uid).reference
        except CheckpointInvalid as error:
            log.warning("step %d is not committed yet: %s", step, error)
            return None

    def _publish(self) -> PublishedVersion | None:
        config = self.training.live.current
        try:
            checkpoint = verify_checkpoint(self.folder / committed_name(self.snapshots.state.step), config.uid)
            published = publish_checkpoint(
                checkpoint, config, self.training.data.normalization, self.settings.models, self.settings.scratch
            )
        except (OSError, CheckpointInvalid) as error:
            log.warning("not published yet: %s", error)
            self.training.report.tell(message=f"the model version could not be published: {error}")
            return None
        log.info("published %s", published.reference)
        return published
