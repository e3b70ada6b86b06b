"""References to model versions. A reference always carries a digest: a tag could be moved under a running service."""

import re
from dataclasses import dataclass

_REFERENCE = re.compile(
    r"pvc://(?P<claim>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)/(?P<name>[a-z0-9]([-a-z0-9._/]*[a-z0-9])?)@(?P<digest>sha256:[0-9a-f]{64})"
)


@dataclass(frozen=True)
class ModelReference:
    """A model version in an OCI image layout: the claim that holds it, its name there, and its manifest's digest."""

    claim: str
    name: str
    digest: str

    def __str__(self) -> str:
        return f"pvc://{self.claim}/{self.name}@{self.digest}"

    @property
    def short_digest(self) -> str:
        """The first twelve hex digits, as printer columns show it."""
        return self.digest.removeprefix("sha256:")[:12]


def parse_model_reference(text: str) -> ModelReference:
    """Parse `pvc://CLAIM/NAME@sha256:HEX`; raises ValueError that says what is missing."""
    if match := _REFERENCE.fullmatch(text):
        return ModelReference(claim=match["claim"], name=match["name"], digest=match["digest"])
    if "@sha256:" not in text:
        raise ValueError(f"{text!r} has no digest: write pvc://CLAIM/NAME@sha256:HEX; tags are not accepted")
    raise ValueError(f"{text!r} is not of the form pvc://CLAIM/NAME@sha256:HEX (64 hex digits)")
