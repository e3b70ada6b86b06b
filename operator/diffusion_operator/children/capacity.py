"""What `capacity` of a pool means for its pods: which nodes they want, and which they stay away from.

There is no common label for spot nodes, so each provider's own is known here. A node with none of these labels may be
anything: on-demand workers accept it, and spot workers too.
"""

from collections.abc import Mapping
from typing import Any

SPOT_LABELS: Mapping[str, str] = {
    "karpenter.sh/capacity-type": "spot",
    "eks.amazonaws.com/capacityType": "SPOT",
    "cloud.google.com/gke-spot": "true",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""Node labels by which Karpenter, EKS, GKE and AKS mark spot nodes."""

SPOT_TOLERATIONS: tuple[Mapping[str, Any], ...] = (
    {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
    {"key": "kubernetes.azure.com/scalesetpriority", "operator": "Equal", "value": "spot", "effect": "NoSchedule"},
)
"""Taints that GKE and AKS put on spot nodes."""

_EXCLUDE_SPOT = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in SPOT_LABELS.items()]
_PREFER_SPOT = [
    {"weight": 100, "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}}
    for key, value in SPOT_LABELS.items()
]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def node_affinity(capacity: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """`theirs` (a pod's `nodeAffinity`) with what `capacity` adds: OnDemand keeps off spot nodes, Spot prefers them."""
    if capacity == "Spot":
        return {**theirs, _PREFERRED: [*theirs.get(_PREFERRED, ()), *_PREFER_SPOT]}
    terms = theirs.get(_REQUIRED, {}).get("nodeSelectorTerms", [{}])
    return {**theirs, _REQUIRED: {"nodeSelectorTerms": [_without_spot(term) for term in terms]}}


def _without_spot(term: Mapping[str, Any]) -> dict[str, Any]:
    """Terms are alternatives, so each of them gets the exclusion."""
    return {**term, "matchExpressions": [*term.get("matchExpressions", ()), *_EXCLUDE_SPOT]}
