"""What a node says about the future of its pods: nothing, a notice of its end, or no answer any more."""

from dataclasses import dataclass
from typing import Literal

from diffusion_contract.names import NOTICE_CONDITIONS, NOTICE_TAINTS
from diffusion_operator.observe.raw_values import condition_of, mappings_at, text_at
from diffusion_operator.observe.snapshot import Raw

UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
OUT_OF_SERVICE_TAINT = "node.kubernetes.io/out-of-service"

NodeState = Literal["Fine", "Noticed", "Unreachable", "Unknown"]


@dataclass(frozen=True)
class NodeFacts:
    """One node. `source`: the taint or condition that says so; `since`: RFC 3339, empty where it is not told.

    Unknown is a node that is not in the snapshot: it may be gone, or not read yet, so nothing follows from it alone.
    """

    state: NodeState
    source: str = ""
    since: str = ""


def observe_node(raw: Raw | None) -> NodeFacts:
    """The facts about a node; an unreachable one wins over its notices, since nobody there hears us any more."""
    if raw is None:
        return NodeFacts("Unknown")
    taints = {text_at(taint, "key"): taint for taint in mappings_at(raw, "spec", "taints")}
    for key in (OUT_OF_SERVICE_TAINT, UNREACHABLE_TAINT):
        if key in taints:
            return NodeFacts("Unreachable", key, text_at(taints[key], "timeAdded"))
    if condition_of(raw, "Ready").get("status") == "Unknown":
        return NodeFacts("Unreachable", "Ready", text_at(condition_of(raw, "Ready"), "lastTransitionTime"))
    for key in NOTICE_TAINTS:
        if key in taints:
            return NodeFacts("Noticed", key, text_at(taints[key], "timeAdded"))
    for kind in NOTICE_CONDITIONS:
        if (condition := condition_of(raw, kind)).get("status") == "True":
            return NodeFacts("Noticed", kind, text_at(condition, "lastTransitionTime"))
    return NodeFacts("Fine")
