"""The run's configuration, read again when its file changes: target, interval and retention may change meanwhile."""

import logging
import time
from pathlib import Path

from pydantic import ValidationError

from diffusion_contract.checkpoint_manifest import identity_digest
from diffusion_contract.frozen_model import first_finding
from diffusion_contract.run_config import RunConfig
from diffusion_trainer.refusal import ConfigurationRefused

log = logging.getLogger(__name__)
_LOOK_SECONDS = 2.0


def read_config(path: Path) -> RunConfig:
    """Parse the run configuration; raises ConfigurationRefused with the field at fault."""
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationRefused("spec", f"the run configuration {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigurationRefused(*first_finding(error, "spec")) from error


class LiveConfig:
    """The newest configuration that still describes the same run; anything else in the file is logged and ignored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self.current = read_config(path)
        self.identity = identity_digest(self.current)

    def refresh(self) -> RunConfig:
        """The configuration, after a look at the file at most every two seconds."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            stamp = self._look()
            if stamp is not None and stamp != self._stamp:
                self._stamp = stamp
                self._take()
        return self.current

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def _take(self) -> None:
        try:
            changed = read_config(self._path)
        except ConfigurationRefused as error:
            log.warning("the changed configuration is not used: %s", error)
            return
        if identity_digest(changed) != self.identity:
            log.warning("the changed configuration describes another run and is not used")
            return
        self.current = changed
        log.info("configuration read again: target step %d", changed.training.target_steps)
