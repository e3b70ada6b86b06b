"""What a workload says last is kept whole, or at least its reason."""

from pathlib import Path

import pytest

from diffusion_contract.agent_messages import TerminationMessage
from diffusion_contract.last_words import write_last_words

SHORT = TerminationMessage(reason="ModelNotFound", message="there is no such digest", path="spec.model")


def test_the_last_words_are_the_document_that_the_operator_reads(tmp_path: Path) -> None:
    write_last_words(tmp_path / "words", SHORT)
    assert TerminationMessage.model_validate_json((tmp_path / "words").read_bytes()) == SHORT


@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f600", "\x00"])
def test_a_message_that_is_too_long_is_cut_and_the_rest_stays_whole(tmp_path: Path, letter: str) -> None:
    """The kubelet keeps bytes, and not letters: half a document would say nothing."""
    write_last_words(tmp_path / "words", SHORT.model_copy(update={"message": letter * 9000}))
    content = (tmp_path / "words").read_bytes()
    said = TerminationMessage.model_validate_json(content)
    assert len(content) <= 4096
    assert (said.reason, said.path, said.message[:9]) == ("ModelNotFound", "spec.model", letter * 9)


def test_no_place_to_write_is_no_reason_to_fail(tmp_path: Path) -> None:
    write_last_words(tmp_path / "missing" / "words", SHORT)
