"""What the status of a DiffusionService remembers: the facts that no other object holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_contract.model_reference import parse_model_reference
from diffusion_operator.observe.raw_values import mapping_at, mappings_at, text_at
from diffusion_operator.observe.snapshot import Raw


@dataclass(frozen=True)
class RecordedRevision:
    """A revision as the status names it: its hash, its model's reference, and since when it is so.

    `image` is the operator's own that it was made with, and empty where the spec named one.
    """

    revision: str
    model: str
    image: str
    since: str


@dataclass(frozen=True)
class RecordedRouting:
    """That all routers have been seen to send every request to `revision`, first at `since`."""

    revision: str
    since: str


@dataclass(frozen=True)
class ServiceHistory:
    """The stored status, as far as decisions depend on it. Whatever cannot be read counts as not there.

    `resolved`: the reference that `training` (a DiffusionTraining's name) gave; both empty before that. `conditions`
    are raw, for their transition times; `reasons` maps their types to (status, reason).
    """

    resolved: str = ""
    training: str = ""
    stable: RecordedRevision | None = None
    candidate: RecordedRevision | None = None
    router_image: str = ""
    routing: RecordedRouting | None = None
    conditions: tuple[Mapping[str, Any], ...] = ()

    def condition(self, kind: str) -> tuple[str, str]:
        """(status, reason) of the stored condition of this type; empty texts where there is none."""
        found = next((c for c in self.conditions if c.get("type") == kind), {})
        return text_at(found, "status"), text_at(found, "reason")

    @property
    def message(self) -> str:
        """The sentence of the stored verdict; empty where there is none."""
        return next((text_at(found, "message") for found in self.conditions if found.get("type") == "Ready"), "")


def read_history(custom_resource: Raw) -> ServiceHistory:
    """The history in `custom_resource.status`; never raises."""
    status = mapping_at(custom_resource, "status")
    resolved = text_at(status, "model", "reference")
    return ServiceHistory(
        resolved=resolved if is_reference(resolved) else "",
        training=text_at(status, "model", "training"),
        stable=_recorded(mapping_at(status, "stable")),
        candidate=_recorded(mapping_at(status, "candidate")),
        router_image=text_at(status, "router", "image"),
        routing=_routing(mapping_at(status, "router")),
        conditions=tuple(mappings_at(status, "conditions")),
    )


def is_reference(text: str) -> bool:
    """Whether `text` is a reference to a model version with its digest."""
    try:
        parse_model_reference(text)
    except ValueError:
        return False
    return True


def _routing(raw: Raw) -> RecordedRouting | None:
    revision = text_at(raw, "revision")
    return RecordedRouting(revision, text_at(raw, "since")) if revision else None


def _recorded(raw: Raw) -> RecordedRevision | None:
    revision, model = text_at(raw, "revision"), text_at(raw, "model")
    if not revision or not is_reference(model):
        return None
    return RecordedRevision(revision, model, text_at(raw, "image"), text_at(raw, "since"))
