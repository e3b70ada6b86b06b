"""What a node says about the future of its pods: nothing, a notice of its end, or no answer any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from diffusion_contract.names import NOTICE_CONDITIONS, NOTICE_TAINTS, TERMINATES_AT_ANNOTATION
from diffusion_operator.observe.raw_values import condition_of, mappings_at, text_at
from diffusion_operator.observe.snapshot import Raw

DEAD_TAINTS = (
    "node.kubernetes.io/out-of-service",
    "node.kubernetes.io/unreachable",
    "node.cloudprovider.kubernetes.io/shutdown",
)
"""The machine is off or out of reach. The last is set when a cloud says that it has shut the machine down."""

NodeState = Literal["Fine", "Noticed", "Unreachable", "Unknown"]


@dataclass(frozen=True)
class NodeFacts:
    """One node. `source`: the taint or condition that says so; `since`: RFC 3339, empty where it is not told.

    `deadline`: when a noticed node ends, RFC 3339; empty where nobody says.
    Unknown is a node that is not in the snapshot: it may be gone, or not read yet, so nothing follows from it alone.
    """

    state: NodeState
    source: str = ""
    since: str = ""
    deadline: str = ""


def observe_node(raw: Raw | None) -> NodeFacts:
    """The facts about a node; an unreachable one wins over its notices, since nobody there hears us any more."""
    if raw is None:
        return NodeFacts("Unknown")
    taints = {text_at(taint, "key"): taint for taint in mappings_at(raw, "spec", "taints")}
    for key in DEAD_TAINTS:
        if key in taints:
            return NodeFacts("Unreachable", key, text_at(taints[key], "timeAdded"))
    if condition_of(raw, "Ready").get("status") == "Unknown":
        return NodeFacts("Unreachable", "Ready", text_at(condition_of(raw, "Ready"), "lastTransitionTime"))
    return _notice(raw, taints) or NodeFacts("Fine")


def _notice(raw: Raw, taints: Mapping[str, Raw]) -> NodeFacts | None:
    """The announced end of a node. Clouds' taints often lack a time; then that of a condition beside it counts."""
    conditions = {kind: condition_of(raw, kind) for kind in NOTICE_CONDITIONS}
    told = {kind: text_at(one, "lastTransitionTime") for kind, one in conditions.items() if one.get("status") == "True"}
    source = next((key for key in (*NOTICE_TAINTS, *NOTICE_CONDITIONS) if key in taints or key in told), "")
    if not source:
        return None
    since = text_at(taints.get(source), "timeAdded") or next((time for time in told.values() if time), "")
    return NodeFacts("Noticed", source, since, text_at(raw, "metadata", "annotations", TERMINATES_AT_ANNOTATION))
