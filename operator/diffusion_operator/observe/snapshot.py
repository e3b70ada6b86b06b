"""Everything about one custom resource as the API server last told it: raw, and taken at one moment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from diffusion_operator.observe.operator_facts import OperatorFacts

Raw = Mapping[str, Any]
"""A Kubernetes object as JSON. It is shared with a cache: never change it."""


@dataclass(frozen=True)
class Reference:
    """An object by its name, in the custom resource's own namespace unless it says otherwise."""

    api_version: str
    kind: str
    namespace: str
    name: str


class PodName(NamedTuple):
    """One pod of the custom resource's namespace, and no namesake of it."""

    name: str
    uid: str


class Sought(Protocol):
    """What a kind wants to see besides its children; pure functions that accept a spec that makes no sense."""

    @property
    def references(self) -> Callable[[Raw], tuple[Reference, ...]]:
        """Objects that the custom resource refers to."""

    @property
    def members(self) -> Callable[[Raw], tuple[PodName, ...]]:
        """Pods that its status names, whoever owns them now."""

    @property
    def short_of_pods(self) -> Callable[[tuple[Raw, ...]], tuple[str, ...]]:
        """UIDs of those children whose controller may have said in an event why it made no pods."""


@dataclass(frozen=True)
class Refusal:
    """A write of the last pass to which the API server said no: a quota, an admission policy, a name that is taken.

    Or at which it failed time after time, as it does where an admission webhook does not answer (`code` 500 and above).
    Or, with `is_read`, a read of this pass, for which the operator lacks the right.
    """

    kind: str
    name: str
    code: int
    message: str
    is_read: bool = False


@dataclass(frozen=True)
class Snapshot:
    """One custom resource and what belongs to it.

    `children`: owned by the custom resource by UID, directly or through other children (so pods of its Jobs and
    Deployments are among them), sorted by kind, then name, and after them the pods that its status names and nobody of
    these owns any more; each has `apiVersion` and `kind`. `nodes`: by name, those on which these pods run; one that is
    missing here is unknown or gone. `referenced`: an answer for every Reference that the kind asked for and may read;
    None where the API server said that there is no such object. The values in a Secret's `data` are blanked: SHAPE of
    `diffusion_contract.api_key_hash` for one of that form, else "". `refusals`: what could not be read now, and what
    became of the last pass's `apply`, as far as it was refused. `rehearsals`: by the digest of a manifest, why the API
    server would refuse it, or "" where it would take it. Both are known to this process only; before it `has_applied`
    anything, the absence of a refusal means nothing. `creation_failures`: for children that are short of pods, by UID,
    the events (events.k8s.io/v1) in which their controller says why.
    """

    custom_resource: Raw
    operator: OperatorFacts
    children: tuple[Raw, ...] = ()
    nodes: Mapping[str, Raw] = field(default_factory=lambda: MappingProxyType({}))
    referenced: Mapping[Reference, Raw | None] = field(default_factory=lambda: MappingProxyType({}))
    refusals: tuple[Refusal, ...] = ()
    has_applied: bool = True
    rehearsals: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    creation_failures: Mapping[str, tuple[Raw, ...]] = field(default_factory=lambda: MappingProxyType({}))
