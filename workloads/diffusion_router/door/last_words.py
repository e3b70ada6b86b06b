"""What a process that cannot serve leaves behind for the operator: a reason in its termination file."""

import logging
from pathlib import Path

from diffusion_contract.agent_messages import TerminationMessage

_LOGGER = logging.getLogger(__name__)
_LONGEST_MESSAGE = 2000
"""Characters; the kubelet keeps 4,096 bytes of the whole file."""


def write_last_words(file: Path, reason: str, message: str, path: str | None = None) -> None:
    """Say why this process ends: `reason` is a CamelCase word, `path` the field of the spec that is at fault."""
    _LOGGER.error("%s: %s", reason, message)
    said = TerminationMessage(reason=reason, message=message[:_LONGEST_MESSAGE], path=path)
    try:
        file.write_text(said.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
    except OSError as problem:
        _LOGGER.warning("cannot write %s: %s", file, problem)
