"""The config blob's contract."""

from typing import Any

import pytest
from pydantic import ValidationError

from diffusion_contract.model_version import FILE_MEDIA_TYPES, CheckpointLineage, ModelVersionConfig
from tiny_models import SOME_DIGEST, version_config


def test_survives_the_wire() -> None:
    wire: dict[str, Any] = version_config().to_wire()
    assert wire["lineage"]["run"]["configDigest"] == SOME_DIGEST
    assert ModelVersionConfig.model_validate(wire) == version_config()


@pytest.mark.parametrize("created", ["", "yesterday", "2026-01-02", "2026-01-02T03:04:05", "2026-01-02T03:04:05+01:00"])
def test_created_is_a_utc_time(created: str) -> None:
    with pytest.raises(ValidationError, match="created"):
        ModelVersionConfig.model_validate(version_config().to_wire() | {"created": created})


def test_digests_are_checked() -> None:
    with pytest.raises(ValidationError, match="digest"):
        CheckpointLineage(step=1, digest="sha256:short")


def test_no_kind_of_file_that_can_hold_code_is_allowed() -> None:
    assert set(FILE_MEDIA_TYPES) == {".safetensors", ".json", ".md"}
