"""The pod's termination message: what the operator reads when every report was lost."""

import logging
from pathlib import Path

from diffusion_contract.agent_messages import TerminationMessage

log = logging.getLogger(__name__)


def write_last_words(path: Path, words: TerminationMessage) -> None:
    """Write the termination message, at most 4,096 bytes as the kubelet takes; failing to is only logged."""
    content = words.model_dump_json(by_alias=True, exclude_none=True)
    if len(content.encode()) > 4096:
        content = words.model_copy(update={"message": words.message[:500]}).model_dump_json(
            by_alias=True, exclude_none=True
        )
    try:
        path.write_text(content)
    except OSError as error:
        log.warning("the termination message could not be written: %s", error)
