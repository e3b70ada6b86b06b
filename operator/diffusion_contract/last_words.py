"""The termination file: what a workload says last, which the kubelet keeps in the pod's status."""

import logging
from pathlib import Path

from diffusion_contract.agent_messages import TerminationMessage

_LOGGER = logging.getLogger(__name__)
_KEPT_BYTES = 4096
"""The kubelet keeps no more of the file, and half a document says nothing."""
_CUT_TO = 500
"""Characters of a message that is too long; as JSON no character takes more than six bytes."""


def write_last_words(file: Path, words: TerminationMessage) -> None:
    """Write what the operator is to read when every report was lost; that it cannot be written is only logged."""
    content = _encoded(words)
    if len(content) > _KEPT_BYTES:
        content = _encoded(words.model_copy(update={"message": words.message[:_CUT_TO]}))
    try:
        file.write_bytes(content)
    except OSError as problem:
        _LOGGER.warning("the termination message could not be written: %s", problem)


def _encoded(words: TerminationMessage) -> bytes:
    return words.model_dump_json(by_alias=True, exclude_none=True).encode()
