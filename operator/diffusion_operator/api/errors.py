"""The one error of this room: a spec that cannot be used as it is written."""

from pydantic import ValidationError

from diffusion_contract.frozen_model import first_finding


class SpecInvalid(ValueError):
    """A custom resource's spec is refused: `path` names the field (`spec.workers.min`), `why` is a sentence."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


def spec_invalid(error: ValidationError) -> SpecInvalid:
    """The first finding of pydantic as a SpecInvalid, with the path as the user wrote it."""
    return SpecInvalid(*first_finding(error, "spec"))
