"""The base of every typed document that crosses a border: immutable, camelCase on the wire, unknown keys refused."""

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel


class Misfit(ValueError):
    """A rule between fields is broken: `field` is the path of the one to change, below the model that says so."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class FrozenModel(BaseModel):
    """A value: compared by content, never changed after it was parsed, and strict about what it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )

    def to_wire(self) -> dict[str, object]:
        """Give the document as JSON-ready data with camelCase keys; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def without_defaults(self) -> dict[str, object]:
        """Give the document as it is hashed: without the fields that stand at their default.

        So a field that a later version adds changes no hash of what is already running.
        """
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def first_finding(error: ValidationError, prefix: str) -> tuple[str, str]:
    """The path of the first field that was refused, as its author wrote it below `prefix`, and why."""
    finding = error.errors(include_url=False)[0]
    path = prefix
    for part in finding["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    broken = finding.get("ctx", {}).get("error")
    if isinstance(broken, Misfit):
        path += f".{broken.field}"
    return path, finding["msg"].removeprefix("Value error, ")
