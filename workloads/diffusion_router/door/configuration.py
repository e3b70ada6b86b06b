"""The configuration file that the operator mounts into a pod."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from diffusion_contract.frozen_model import FrozenModel, first_finding

Config = TypeVar("Config", bound=FrozenModel)


class UnusableConfiguration(ValueError):
    """The file is missing or not valid: names it, and the first field at fault, in one line."""


def read_configuration(kind: type[Config], file: Path) -> Config:
    """The document in `file`; raises UnusableConfiguration."""
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError as problem:
        raise UnusableConfiguration(f"{file} cannot be read: {problem.strerror}") from problem
    except ValidationError as problem:
        path, why = first_finding(problem, "")
        raise UnusableConfiguration(": ".join(filter(None, (str(file), path.lstrip("."), why)))) from problem
